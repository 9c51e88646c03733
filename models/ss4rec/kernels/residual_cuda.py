"""The step between two layers on CUDA, LN(x + Dropout(y + skip x)), with its gradients: launches the kernels of `norm_cuda`."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from models.ss4rec.kernels import norm_cuda

__all__ = ["AddAndNormalise", "add_and_normalise"]

ROWS = 4  # tokens that a program holds at once, a warp each
PROGRAMS = 512  # most programs of the backward pass, and rows of its sums


def add_and_normalise(
    x: torch.Tensor, y: torch.Tensor, skip: torch.Tensor | None, norm: torch.nn.LayerNorm, dropped: int, half: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return LN(x + Dropout(y + skip x)) in the type of `x`, and in the type `half` for the next layer.

    `x` and `y` are (T, H), `skip` (H,). `dropped` of 256 values become 0, and the others are scaled by the inverse of their share.
    """
    result: tuple[torch.Tensor, torch.Tensor] = AddAndNormalise.apply(  # type: ignore[no-untyped-call]
        x, y, skip, norm.weight, norm.bias, norm.eps, dropped, half
    )
    return result


class AddAndNormalise(torch.autograd.Function):
    """LN(x + Dropout(y + skip x)), and the same in half precision for the next layer to read."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        y: torch.Tensor,
        skip: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor,
        epsilon: float,
        dropped: int,
        half: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`dropped` of 256 values become 0. If `half` is the type of x, both results are the same tensor's values."""
        x, y = x.contiguous(), y if y.stride(-1) == 1 else y.contiguous()
        tokens, width = x.shape
        seed = torch.randint(1 << 31, (1,), device=x.device) if dropped else x
        out, copy = torch.empty_like(x), x.new_empty(x.shape if half != x.dtype else (1,), dtype=half)
        norm_cuda.norm_forward[(triton.cdiv(tokens, ROWS),)](
            x, y, x if skip is None else skip, weight, bias, seed, out, copy, tokens, width, y.stride(0), epsilon,
            ROWS=ROWS, BLOCK=triton.next_power_of_2(width), ACC=_accumulator(x), SKIP=skip is not None, DROPPED=dropped,
            HALF=half != x.dtype, num_warps=ROWS,
        )  # fmt: skip
        ctx.epsilon, ctx.dropped = epsilon, dropped
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, y, skip, weight, seed)
        return out, copy if half != x.dtype else out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        x, y, skip, weight, seed = ctx.saved_tensors
        on_out, on_half = (None if grad is None else grad.contiguous() for grad in grads)
        tokens, width = x.shape
        each = triton.cdiv(triton.cdiv(tokens, PROGRAMS), ROWS) * ROWS
        programs = triton.cdiv(tokens, each)
        grad_x, grad_y = torch.empty_like(x), y.new_empty(y.shape)
        parameters = weight.new_empty(programs, 3, width)
        norm_cuda.norm_backward[(programs,)](
            x, y, x if skip is None else skip, weight, seed, x if on_out is None else on_out, x if on_half is None else on_half,
            grad_x, grad_y, parameters, tokens, each, width, y.stride(0), ctx.epsilon,
            ROWS=ROWS, BLOCK=triton.next_power_of_2(width), ACC=_accumulator(x), SKIP=skip is not None, DROPPED=ctx.dropped,
            OUT=on_out is not None, HALF=on_half is not None, num_warps=ROWS,
        )  # fmt: skip
        on_weight, on_bias, on_skip = parameters.sum(0)
        return grad_x, grad_y, None if skip is None else on_skip, on_weight, on_bias, None, None, None


def _accumulator(tensor: torch.Tensor) -> Any:
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
