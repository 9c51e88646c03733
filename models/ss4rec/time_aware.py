"""The time-aware layer: S5 (arXiv 2208.04933), discretised with the real interval after each event.

With s = exp(log_step), interval dt_k and zero-order hold:

    a_k = exp(Lambda s dt_k)
    x_k = a_k x_{k-1} + ((a_k - 1) / Lambda) B u_k
    y_k = Re(C x_k) + D u_k

B u is computed first, so the (tokens, P, H) tensor B-bar of s5-pytorch is never formed. Complex numbers are stored as pairs of
reals, so checkpoints stay plain float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from s5 import S5
from torch import nn

from models.ss4rec.kernels import Backend, time_scan
from models.windows import Segments

__all__ = ["LEAST_DECAY", "TimeAwareLayer"]

LEAST_DECAY = 1e-4  # Re(Lambda) <= -LEAST_DECAY: at +1e-4, an interval of a day would already overflow


class TimeAwareLayer(nn.Module):
    """S5 with P states over H channels. Parameters are initialised by s5-pytorch."""

    def __init__(self, width: int, states: int, step_min: float, step_max: float) -> None:
        super().__init__()
        drawn = S5(width=width, state_width=states, dt_min=step_min, dt_max=step_max).seq.state_dict()
        self.log_decay = nn.Parameter(torch.empty(states))  # Re(Lambda) = -LEAST_DECAY - exp(log_decay)
        self.frequency = nn.Parameter(torch.empty(states))  # Im(Lambda)
        self.B = nn.Parameter(torch.empty(states, width, 2))
        self.C = nn.Parameter(torch.empty(width, states, 2))
        self.D = nn.Parameter(torch.empty(width))
        self.log_step = nn.Parameter(torch.empty(states))
        self.register_buffer("signs", torch.tensor([[1.0], [-1.0]]), persistent=False)  # of real and imaginary parts of C
        self.load_stock(drawn)

    def load_stock(self, state: dict[str, torch.Tensor]) -> None:
        """Load the parameters of an s5-pytorch `S5SSM` (dense B and C).

        Raises:
            ValueError: if Re(Lambda) is not below -1e-4, because such a state grows with time.
        """
        decay = -state["Lambda"].real - LEAST_DECAY
        if not bool((decay > 0).all()):
            raise ValueError(f"Re(Lambda) must be below -{LEAST_DECAY}; the checkpoint has {-float(decay.min())}")
        with torch.no_grad():
            self.log_decay.copy_(decay.log())
            self.frequency.copy_(state["Lambda"].imag)
            self.B.copy_(state["B"])
            self.C.copy_(torch.view_as_real(state["C"].resolve_conj()))
            self.D.copy_(state["D"])
            self.log_step.copy_(state["log_step"].reshape(-1))

    @torch.no_grad()
    def scale_output(self, factor: float) -> None:
        """Multiply the outputs of the initial layer by `factor`."""
        self.C.mul_(factor)
        self.D.mul_(factor)

    def fused(self, u: torch.Tensor, intervals: torch.Tensor, segments: Segments, half: torch.dtype) -> torch.Tensor:
        """Run the layer on CUDA from no state, with products in the type `half`. Returns y (T, H) without the term D u."""
        from models.ss4rec.kernels import TimeLayer

        own = (self.log_decay, self.frequency, self.B, self.C, self.log_step, self.signs)
        y: torch.Tensor = TimeLayer.apply(u, intervals, *own, segments, LEAST_DECAY, half)  # type: ignore[no-untyped-call]
        return y

    def forward(
        self,
        u: torch.Tensor,
        intervals: torch.Tensor,
        segments: Segments,
        state: torch.Tensor | None = None,
        backend: Backend = "reference",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the layer over every window.

        `u` is (T, H), `intervals` (T,) seconds >= 0, and `state` (W, 2P). Returns y (T, H) and the state after each window.
        """
        drive = F.linear(u, self.B.permute(2, 0, 1).flatten(0, 1))
        h, final = time_scan(
            drive,
            intervals,
            -LEAST_DECAY - self.log_decay.exp(),
            self.frequency,
            self.log_step,
            segments,
            state,
            backend="cuda" if backend == "mamba-ssm" else backend,
        )
        return F.linear(h, torch.cat([self.C[..., 0], -self.C[..., 1]], dim=1)) + self.D * u, final
