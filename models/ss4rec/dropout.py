"""Dropout that uses one random byte per element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ByteDropout"]

LEAST, MOST = -(2**63), 2**63 - 1


class ByteDropout(nn.Module):
    """Dropout with rates in steps of 1/256. Kept values are scaled by the exact inverse of the share kept.

    On the CPU, torch draws a double for each element, which takes a twentieth of this model's training step. Here one int64
    serves eight elements. On CUDA, torch's own fused kernel draws the numbers.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = min(round(rate * 256), 255)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.dropped == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.dropped / 256)
        words = torch.randint(LEAST, MOST, ((x.numel() + 7) // 8,), device=x.device)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * (kept * (256 / (256 - self.dropped)))
