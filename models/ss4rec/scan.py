"""The first-order linear recurrence h_t = a_t h_{t-1} + b_t under both state space layers, in two backends.

`reference` is the equation as written, in any dtype on any device; `compiled` is the CPU path of `kernels`, float32.
Both return the final state, take an initial one, and have the same gradients.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

__all__ = ["Backend", "complex_scan", "resolve_backend", "selective_scan"]

Backend = Literal["reference", "compiled"]


def resolve_backend(wanted: Literal["auto", "reference", "compiled"], device: torch.device) -> Backend:
    """The backend for tensors on `device`: compiled kernels exist for the CPU."""
    if wanted == "auto":
        return "compiled" if device.type == "cpu" else "reference"
    return wanted


def complex_scan(
    a: torch.Tensor, b: torch.Tensor, start: torch.Tensor | None = None, *, backend: Backend = "reference"
) -> torch.Tensor:
    """States of h_t = a_t h_{t-1} + b_t over complex numbers held as (real, imaginary) in the last axis.

    `a`, `b` (B, L, P, 2), `start` (B, P, 2) or None for zero. Returns h (B, L, P, 2); h[:, -1] is the final state.
    """
    if start is None:
        start = b.new_zeros(b.shape[0], *b.shape[2:])
    if backend == "compiled":
        result: torch.Tensor = _CompiledComplexScan.apply(a, b, start)  # type: ignore[no-untyped-call]
        return result
    decay, drive = torch.view_as_complex(a.contiguous()), torch.view_as_complex(b.contiguous())
    state = torch.view_as_complex(start.contiguous())
    states = []
    for t in range(b.shape[1]):
        state = decay[:, t] * state + drive[:, t]
        states.append(state)
    return torch.view_as_real(torch.stack(states, dim=1))


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    start: torch.Tensor | None = None,
    *,
    backend: Backend = "reference",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mamba's recurrence (arXiv 2312.00752, algorithm 2): h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t, y_t = C_t h_t.

    `u`, `delta` (B, L, D) with delta >= 0; `a` (D, N) <= 0; `b`, `c` (B, L, N); `start` (B, D, N) or None for zero.
    Returns y (B, L, D) and the final state (B, D, N).
    """
    if start is None:
        start = u.new_zeros(u.shape[0], *a.shape)
    if backend == "compiled":
        result: tuple[torch.Tensor, torch.Tensor] = _CompiledSelectiveScan.apply(  # type: ignore[no-untyped-call]
            u, delta, a, b, c, start
        )
        return result
    state, outputs = start, []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * a)  # (B, D, N)
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * b[:, t, None, :]
        outputs.append((state * c[:, t, None, :]).sum(-1))
    return torch.stack(outputs, dim=1), state


class _CompiledComplexScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        from models.ss4rec import kernels

        a, b, start = a.contiguous(), b.contiguous(), start.contiguous()
        h = kernels.complex_scan(a, b, start)
        ctx.save_for_backward(a, start, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        from models.ss4rec import kernels

        a, start, h = ctx.saved_tensors
        return kernels.complex_scan_backward(a, start, h, grads[0].contiguous())


class _CompiledSelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        delta: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
        start: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from models.ss4rec import kernels

        u, delta, a, b, c = u.contiguous(), delta.contiguous(), a.contiguous(), b.contiguous(), c.contiguous()
        y, kept, state = kernels.selective_scan(u, delta, a, b, c, start.contiguous())
        ctx.save_for_backward(u, delta, a, b, c, kept)
        return y, state

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        from models.ss4rec import kernels

        u, delta, a, b, c, kept = ctx.saved_tensors
        return kernels.selective_scan_backward(u, delta, a, b, c, kept, grads[0].contiguous(), grads[1])
