"""Both layers on CUDA as one operation each, for training: windows start from nothing and no state is kept.

A layer casts its weights once, for both passes. Its parts write their gradients where the next product reads them, so that none is
copied, added or cast.
"""

from __future__ import annotations

from typing import Any

import torch

from models.ss4rec.kernels.scan_cuda import Convolution, SelectiveScan, TimeScan
from models.windows import Segments

__all__ = ["Part", "RelationLayer", "TimeLayer"]


class Part:
    """Autograd's context of an autograd function that runs as a part of another one, or outside autograd."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs

    def set_materialize_grads(self, value: bool) -> None:
        pass

    def save_for_backward(self, *tensors: torch.Tensor | None) -> None:
        self.saved_tensors = tensors


class TimeLayer(torch.autograd.Function):
    """S5 without the term D u: (T, H) -> (T, H)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        intervals: torch.Tensor,
        log_decay: torch.Tensor,
        frequency: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
        log_step: torch.Tensor,
        signs: torch.Tensor,
        segments: Segments,
        least: float,
        half: torch.dtype,
    ) -> torch.Tensor:
        """`b` is (P, H, 2), `c` (H, P, 2) and `signs` (2, 1): 1 and -1. `half` is the type of the products."""
        x = x.to(half)
        states, width = b.shape[:2]
        write, read = b.new_empty(2, states, width, dtype=half), c.new_empty(width, 2, states, dtype=half)
        write.copy_(b.permute(2, 0, 1))
        torch.mul(c.permute(0, 2, 1), signs, out=read)
        write, read = write.view(-1, width), read.view(width, -1)
        scan: Any = Part((True, ctx.needs_input_grad[1], *(True,) * 7))
        same = half == log_decay.dtype
        copied = None if same else x.new_empty(len(x), 2 * states)
        h, _ = TimeScan.forward(scan, x @ write.T, intervals, log_decay, frequency, log_step, None, segments, least, copied)
        states_read = h if copied is None else copied
        ctx.scan, ctx.products = scan, (x, write, read, states_read)
        ctx.save_for_backward(signs)
        return states_read @ read.T

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x, write, read, h), (signs,), grad = ctx.products, ctx.saved_tensors, grads[0]
        width, states = len(read), write.shape[0] // 2
        on_c = signs.new_empty(width, states, 2)
        torch.mul(_weight_gradient(grad, h).view(width, 2, states), signs, out=on_c.permute(0, 2, 1))
        on_drive, on_intervals, on_decay, on_frequency, on_step, *_ = TimeScan.backward(ctx.scan, grad @ read, None)
        assert on_drive is not None
        on_b = _weight_gradient(on_drive, x).view(2, states, width).permute(1, 2, 0).contiguous()
        return on_drive @ write, on_intervals, on_decay, on_frequency, on_b, on_c, on_step, None, None, None, None


class RelationLayer(torch.autograd.Function):
    """Mamba: (T, H) -> (T, H)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        in_proj: torch.Tensor,
        taps: torch.Tensor,
        tap_bias: torch.Tensor,
        x_proj: torch.Tensor,
        dt_proj: torch.Tensor,
        dt_bias: torch.Tensor,
        a_log: torch.Tensor,
        skip: torch.Tensor,
        out_proj: torch.Tensor,
        segments: Segments,
        half: torch.dtype,
        keep: bool,
    ) -> torch.Tensor:
        """The weights have the names and shapes of mamba-ssm's; `taps` is (D, 1, K). Without `keep`, there is no backward pass."""
        x = x.to(half)
        weights = [in_proj, x_proj, dt_proj, out_proj]
        casts = [torch.empty_like(weight, dtype=half) for weight in weights]
        torch._foreach_copy_(casts, weights)
        w_in, w_x, w_dt, w_out = casts
        channels, rank, states = len(skip), dt_proj.shape[1], a_log.shape[1]
        convolution: Any = Part((True,) * 4)
        scan: Any = Part((True,) * 12)
        both = x @ w_in.T
        u = Convolution.forward(convolution, both[:, :channels], taps.view(channels, -1), tap_bias, segments)
        projected = u @ w_x.T
        low, b, c = torch.split(projected, [rank, states, states], dim=1)
        y, _ = SelectiveScan.forward(scan, u, low @ w_dt.T, both[:, channels:], a_log, b, c, skip, dt_bias, None, segments, keep)
        if keep:
            ctx.convolution, ctx.scan, ctx.products = convolution, scan, (x, u, projected, y, *casts)
        return y @ w_out.T

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x, u, projected, y, w_in, w_x, w_dt, w_out), grad = ctx.products, grads[0]
        (channels, rank), both = w_dt.shape, x.new_empty(len(x), len(w_in))
        ctx.scan.grad_gate, ctx.convolution.grad_x = both[:, channels:], both[:, :channels]
        on_u, on_delta, _, on_a_log, on_b, on_c, on_skip, on_bias, *_ = SelectiveScan.backward(ctx.scan, grad @ w_out, None)
        assert on_u is not None and on_delta is not None and on_b is not None and on_c is not None
        on_projected = torch.empty_like(projected)
        on_projected[:, :rank] = on_delta @ w_dt
        on_projected[:, rank:].copy_(_neighbours(on_b, on_c))
        on_u.addmm_(on_projected, w_x)
        on_dt_proj, on_x_proj = _weight_gradient(on_delta, projected[:, :rank]), _weight_gradient(on_projected, u)
        _, on_taps, on_tap_bias, _ = Convolution.backward(ctx.convolution, on_u)
        assert on_taps is not None
        on_in_proj, on_out_proj = _weight_gradient(both, x), _weight_gradient(grad, y)
        on_taps = on_taps.contiguous()[:, None]
        on_a_log = None if on_a_log is None else on_a_log.contiguous()
        on_weights = (on_in_proj, on_taps, on_tap_bias, on_x_proj, on_dt_proj, on_bias, on_a_log, on_skip, on_out_proj)
        return both @ w_in, *on_weights, None, None, None


def _neighbours(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return two slices that lie beside each other as one."""
    return left.as_strided((len(left), left.shape[1] + right.shape[1]), left.stride())


def _weight_gradient(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return grad^T x in the weights' type, from products that are added up in float32."""
    if not grad.is_cuda:
        return (grad.T @ x).to(torch.float64 if grad.dtype == torch.float64 else torch.float32)
    if grad.dtype in (torch.float32, torch.float64):
        return grad.T @ x
    return torch.mm(grad.T, x, out_dtype=torch.float32)
