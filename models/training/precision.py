"""The precision of matrix products and activations in training."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["autocast", "half_type"]


def half_type(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype | None:
    """Return bfloat16, or None for float32. `auto` is bfloat16 on CUDA."""
    half = wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else None


def autocast(dtype: torch.dtype | None, device: torch.device) -> torch.autocast:
    """Return the context in which torch computes in `dtype`, or in float32 if it is None. Weights stay float32."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)
