"""The time-aware layer: S5 (arXiv 2208.04933) discretised by the real interval after each event.

With s = exp(log_step) and interval dt_k, a_k = exp(Lambda s dt_k) and x_k = a_k x_{k-1} + ((a_k - 1) / Lambda) B u_k,
y_k = Re(C x_k) + D u_k (zero-order hold). B u is taken first, so the (B, L, P, H) tensor B-bar of s5-pytorch is never
formed. Complex numbers are held as pairs of reals: checkpoints stay plain float32.
"""

from __future__ import annotations

import torch
from s5 import S5
from torch import nn

from models.ss4rec.scan import Backend, complex_scan

__all__ = ["TimeAwareLayer"]

LEAST_DECAY = 1e-4  # Re(Lambda) <= -LEAST_DECAY: at +1e-4 an interval of a day already overflows


class TimeAwareLayer(nn.Module):
    """S5 with states P over H channels; parameters are drawn by s5-pytorch's own initialisation."""

    def __init__(self, width: int, states: int, step_min: float, step_max: float) -> None:
        super().__init__()
        drawn = S5(width=width, state_width=states, dt_min=step_min, dt_max=step_max).seq.state_dict()
        self.log_decay = nn.Parameter(torch.empty(states))  # Re(Lambda) = -LEAST_DECAY - exp(log_decay)
        self.frequency = nn.Parameter(torch.empty(states))  # Im(Lambda)
        self.B = nn.Parameter(torch.empty(states, width, 2))
        self.C = nn.Parameter(torch.empty(width, states, 2))
        self.D = nn.Parameter(torch.empty(width))
        self.log_step = nn.Parameter(torch.empty(states))
        self.load_stock(drawn)

    def load_stock(self, state: dict[str, torch.Tensor]) -> None:
        """Take the parameters of an s5-pytorch `S5SSM` (dense B and C). Raises ValueError where Re(Lambda) is not
        below -1e-4: such a state grows with time."""
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

    def forward(
        self, u: torch.Tensor, intervals: torch.Tensor, state: torch.Tensor | None = None, backend: Backend = "reference"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`u` (B, L, H), `intervals` (B, L) seconds >= 0, `state` (B, P, 2). Returns y (B, L, H) and the last state."""
        real = -LEAST_DECAY - self.log_decay.exp()
        step = intervals.clamp_min(0)[..., None] * self.log_step.exp()  # (B, L, P)
        x, angle = real * step, self.frequency * step
        # exp(z) - 1 without cancellation at small z: Re = expm1(x) cos(w) - 2 sin(w/2)^2, Im = exp(x) sin(w).
        growth, half = torch.expm1(x), torch.sin(angle / 2)
        change_re = growth * torch.cos(angle) - 2 * half * half
        change_im = (growth + 1) * torch.sin(angle)
        norm = real * real + self.frequency * self.frequency
        hold_re = (change_re * real + change_im * self.frequency) / norm  # ((a - 1) / Lambda)
        hold_im = (change_im * real - change_re * self.frequency) / norm
        drive_re, drive_im = u @ self.B[..., 0].T, u @ self.B[..., 1].T
        drive = torch.stack([hold_re * drive_re - hold_im * drive_im, hold_re * drive_im + hold_im * drive_re], dim=-1)
        decay = torch.stack([change_re + 1, change_im], dim=-1)
        h = complex_scan(decay, drive, state, backend=backend)
        y = h[..., 0] @ self.C[..., 0].T - h[..., 1] @ self.C[..., 1].T + self.D * u
        return y, h[:, -1]
