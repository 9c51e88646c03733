"""The relation-aware layer: Mamba (arXiv 2312.00752) with mamba-ssm's parameter names, shapes and initialisation.

`load_state_dict` loads a checkpoint of `mamba_ssm.Mamba(d_model, d_state, d_conv, expand)` unchanged.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from models.ss4rec.kernels import Backend, causal_convolution, selective_scan
from models.windows import Segments

__all__ = ["RelationAwareLayer", "RelationState"]

RelationState = tuple[torch.Tensor, torch.Tensor]  # the convolution's last inputs (W, K - 1, D) and the states (W, D, N)


class RelationAwareLayer(nn.Module):
    """Mamba block without its norm and residual: (T, H) -> (T, H)."""

    def __init__(self, width: int, states: int, conv_width: int, expand: int) -> None:
        super().__init__()
        inner, rank = expand * width, self.rank_of(width)
        self.inner, self.rank, self.states = inner, rank, states
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv_width, groups=inner, padding=conv_width - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, states + 1, dtype=torch.float32).log().repeat(inner, 1))
        self.A_log._no_weight_decay = True  # type: ignore[attr-defined]
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.exp(torch.rand(inner) * math.log(0.1 / 0.001) + math.log(0.001)).clamp_min(1e-4)
        with torch.no_grad():  # inverse softplus; a generic re-initialisation that zeroes this bias would ruin the time scales
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    @torch.no_grad()
    def scale_output(self, factor: float) -> None:
        """Multiply the outputs of the initial layer by `factor`."""
        self.out_proj.weight.mul_(factor)

    @staticmethod
    def rank_of(width: int) -> int:
        """Return the number of values that a token's step is projected from (mamba-ssm's default)."""
        return math.ceil(width / 16)

    def fused(self, x: torch.Tensor, segments: Segments, half: torch.dtype) -> torch.Tensor:
        """Run the layer on CUDA from no state, with products in the type `half`. Returns y (T, H)."""
        from models.ss4rec.kernels import RelationLayer

        first = (self.in_proj.weight, self.conv1d.weight, self.conv1d.bias, self.x_proj.weight)
        rest = (self.dt_proj.weight, self.dt_proj.bias, self.A_log, self.D, self.out_proj.weight)
        y: torch.Tensor = RelationLayer.apply(  # type: ignore[no-untyped-call]
            x, *first, *rest, segments, half, torch.is_grad_enabled()
        )
        return y

    def forward(
        self,
        x: torch.Tensor,
        segments: Segments,
        state: RelationState | None = None,
        backend: Backend = "reference",
        keep_state: bool = False,
    ) -> tuple[torch.Tensor, RelationState | None]:
        """Run the layer on `x` (T, H).

        Returns:
            y (T, H) and the state after each window, or None without `keep_state`.
        """
        inputs, gate = self.in_proj(x).chunk(2, dim=-1)
        if backend == "mamba-ssm":
            if state is None and not keep_state:
                return self.out_proj(self._stock(inputs, gate, segments)), None
            backend = "cuda"  # mamba-ssm's kernels do not take a state
        bias = self.conv1d.bias
        assert bias is not None
        before = None if state is None else state[0]
        u = causal_convolution(inputs, self.conv1d.weight[:, 0], bias, segments, before, backend=backend)
        delta, b, c = self.x_proj(u).split([self.rank, self.states, self.states], dim=-1)
        y, final = selective_scan(
            u,
            F.linear(delta, self.dt_proj.weight),
            gate,
            self.A_log,
            b,
            c,
            self.D,
            self.dt_proj.bias,
            segments,
            None if state is None else state[1],
            backend=backend,
        )
        kept = (_last_inputs(inputs, segments, before, self.conv1d.kernel_size[0] - 1), final) if keep_state else None
        return self.out_proj(y), kept

    def _stock(self, inputs: torch.Tensor, gate: torch.Tensor, segments: Segments) -> torch.Tensor:
        """Run the layer with the CUDA kernels of causal-conv1d and mamba-ssm, which need windows padded to (W, D, L)."""
        from causal_conv1d import causal_conv1d_fn
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        inputs, gate = (segments.pad(part).transpose(1, 2).contiguous() for part in (inputs, gate))
        weight = self.conv1d.weight[:, 0].to(inputs.dtype)
        u = causal_conv1d_fn(inputs, weight, self.conv1d.bias.to(inputs.dtype), activation="silu")  # type: ignore[union-attr]
        delta, b, c = self.x_proj(u.transpose(1, 2)).split([self.rank, self.states, self.states], dim=-1)
        y = selective_scan_fn(
            u,
            F.linear(delta, self.dt_proj.weight).transpose(1, 2).contiguous(),
            -self.A_log.exp(),
            b.transpose(1, 2).contiguous(),
            c.transpose(1, 2).contiguous(),
            self.D,
            z=gate,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
        )
        return segments.unpad(y.transpose(1, 2))


def _last_inputs(inputs: torch.Tensor, segments: Segments, before: torch.Tensor | None, count: int) -> torch.Tensor:
    """Return the last inputs (W, count, D) of each window. A shorter window is filled up from `before`."""
    if before is None:
        before = inputs.new_zeros(len(segments), count, inputs.shape[1])
    if len(inputs) == 0:
        return before
    starts, ends = segments.offsets[:-1, None].long(), segments.offsets[1:, None].long()
    place = ends - count + torch.arange(count, device=inputs.device)  # (W, count)
    older = (place - starts + count).clamp(0, count - 1)[..., None].expand(-1, -1, inputs.shape[1])
    return torch.where((place >= starts)[..., None], inputs[place.clamp_min(0)], before.gather(1, older))
