"""The two functions of causal-conv1d 1.7.0 and mamba-ssm 2.3.2 that SS4Rec calls, by their documented reference formulas.

Those packages have no CPU build. Like them, these functions take (batch, dim, length) tensors and refuse any other layout.
"""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F


def causal_conv1d_fn(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, activation: str | None = None
) -> torch.Tensor:
    """`x` (batch, dim, length), `weight` (dim, width), `bias` (dim,)."""
    assert x.dim() == 3 and weight.shape[0] == x.shape[1] and activation in (None, "silu") and weight.dtype == x.dtype
    dim, width = weight.shape
    out = F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=dim)[..., : x.shape[-1]]
    return F.silu(out) if activation else out


def selective_scan_fn(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
) -> torch.Tensor:
    """`u`, `delta`, `z` (batch, dim, length), `A` (dim, state), `B`, `C` (batch, state, length), `D`, `delta_bias` (dim,)."""
    batch, dim, length = u.shape
    assert delta.shape == u.shape and A.shape[0] == dim and B.shape == C.shape == (batch, A.shape[1], length)
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    state, outputs = u.new_zeros(batch, dim, A.shape[1]), []
    for t in range(length):
        step = delta[:, :, t, None]
        state = torch.exp(step * A) * state + step * B[:, None, :, t] * u[:, :, t, None]
        outputs.append((state * C[:, None, :, t]).sum(-1))
    y = torch.stack(outputs, dim=2)
    if D is not None:
        y = y + u * D[:, None]
    return y if z is None else y * F.silu(z)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both importable for one test."""
    for name, functions in (
        ("causal_conv1d", {"causal_conv1d_fn": causal_conv1d_fn}),
        ("mamba_ssm", {}),
        ("mamba_ssm.ops", {}),
        ("mamba_ssm.ops.selective_scan_interface", {"selective_scan_fn": selective_scan_fn}),
    ):
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__dict__.update(functions)
        monkeypatch.setitem(sys.modules, name, module)
