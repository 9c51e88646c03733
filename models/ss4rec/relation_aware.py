"""The relation-aware layer: Mamba (arXiv 2312.00752) with mamba-ssm's parameter names, shapes and initialisation.

A checkpoint of `mamba_ssm.Mamba(d_model, d_state, d_conv, expand)` loads with `load_state_dict` as it is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from models.ss4rec.scan import Backend, selective_scan

__all__ = ["RelationAwareLayer"]


class RelationAwareLayer(nn.Module):
    """Mamba block without its norm and residual: (B, L, H) -> (B, L, H)."""

    def __init__(self, width: int, states: int, conv_width: int, expand: int) -> None:
        super().__init__()
        inner, rank = expand * width, math.ceil(width / 16)
        self.inner, self.rank, self.states = inner, rank, states
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv_width, groups=inner, padding=conv_width - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, states + 1, dtype=torch.float32).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.exp(torch.rand(inner) * math.log(0.1 / 0.001) + math.log(0.001)).clamp_min(1e-4)
        with torch.no_grad():  # inverse softplus: a generic re-initialisation that zeroes this bias ruins the time scales
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(
        self,
        x: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor] | None = None,
        backend: Backend = "reference",
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """`x` (B, L, H); `state` the last conv_width - 1 inputs of the convolution (B, W - 1, D) and the recurrence's
        state (B, D, N). Returns y (B, L, H) and the state after the last position."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        width = self.conv1d.kernel_size[0]
        before = u.new_zeros(len(u), width - 1, self.inner) if state is None else state[0]
        context = torch.cat([before, u], dim=1)
        u = F.silu(self._convolve(context, x.shape[1]))
        delta, b, c = self.x_proj(u).split([self.rank, self.states, self.states], dim=-1)
        delta = F.softplus(self.dt_proj(delta))
        y, final = selective_scan(u, delta, -self.A_log.exp(), b, c, None if state is None else state[1], backend=backend)
        y = (y + self.D * u) * F.silu(gate)
        return self.out_proj(y), (context[:, context.shape[1] - (width - 1) :], final)

    def _convolve(self, context: torch.Tensor, length: int) -> torch.Tensor:
        """Causal depthwise convolution as a sum of shifted products: no transposes to (B, D, L) and back."""
        weight, bias = self.conv1d.weight[:, 0], self.conv1d.bias
        assert bias is not None
        out = bias + context[:, :length] * weight[:, 0]
        for k in range(1, weight.shape[1]):
            out = out + context[:, k : k + length] * weight[:, k]
        return out
