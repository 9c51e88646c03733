"""The numba backend: `kernels_cpu` with gradients. It always computes in float32."""

from __future__ import annotations

from typing import Any

import torch

from models.ss4rec.kernels import cpu as kernels_cpu

__all__ = ["complex_scan", "convolution", "selective_scan"]


def complex_scan(
    a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, start: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h_t = a_t h_{t-1} + b_t over complex numbers, (T, 2P) with real parts first.

    Returns h and the final state.
    """
    result: tuple[torch.Tensor, torch.Tensor] = _ComplexScan.apply(  # type: ignore[no-untyped-call]
        a.float(), b.float(), start.float(), offsets
    )
    return result


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    offsets: torch.Tensor,
    start: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels_cpu.selective_scan`. Returns y (T, D) and the final state (W, D, N)."""
    result: tuple[torch.Tensor, torch.Tensor] = SelectiveScan.apply(  # type: ignore[no-untyped-call]
        u.float(), delta.float(), a.float(), b.float(), c.float(), start.float(), offsets, torch.is_grad_enabled()
    )
    return result


def convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Apply a depthwise convolution over each window's past: `x` (T, D), `weight` (D, K), `bias` (D,). Returns (T, D)."""
    y: torch.Tensor = _Convolution.apply(x.float(), weight.float(), bias.float(), offsets)  # type: ignore[no-untyped-call]
    return y


class _ComplexScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        a, b, start = a.contiguous(), b.contiguous(), start.contiguous()
        h, final = kernels_cpu.complex_scan(a, b, offsets, start)
        ctx.save_for_backward(a, offsets, start, h)
        return h, final

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, offsets, start, h = ctx.saved_tensors
        return *kernels_cpu.complex_scan_backward(a, offsets, start, h, grads[0].contiguous(), grads[1]), None


class SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        delta: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
        start: torch.Tensor,
        offsets: torch.Tensor,
        keep: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        u, delta, a, b, c = u.contiguous(), delta.contiguous(), a.contiguous(), b.contiguous(), c.contiguous()
        y, kept, final = kernels_cpu.selective_scan(u, delta, a, b, c, offsets, start.contiguous(), keep=keep)
        ctx.save_for_backward(u, delta, a, b, c, offsets, kept)
        return y, final

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, delta, a, b, c, offsets, kept = ctx.saved_tensors
        grads = (grads[0].contiguous(), grads[1])
        return *kernels_cpu.selective_scan_backward(u, delta, a, b, c, offsets, kept, *grads), None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        x, taps = x.contiguous(), weight.T.contiguous()
        ctx.save_for_backward(x, taps, offsets)
        return kernels_cpu.convolution(x, taps, bias.contiguous(), offsets)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, taps, offsets = ctx.saved_tensors
        grad_x, grad_taps, grad_bias = kernels_cpu.convolution_backward(x, taps, offsets, grads[0].contiguous())
        return grad_x, grad_taps.T, grad_bias, None
