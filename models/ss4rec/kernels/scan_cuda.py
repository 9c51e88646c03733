"""The Triton backend: launches the kernels of `time_cuda`, `selective_cuda` and `convolution_cuda`, and their gradients.

Streams must have at least one token.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from models.ss4rec.kernels import convolution_cuda, selective_cuda, time_cuda
from models.windows import Segments

__all__ = ["Convolution", "SelectiveScan", "TimeScan", "causal_convolution", "selective_scan", "time_scan"]

TIME, TIME_STATES = 32, 8  # tile of the time-aware scan: tokens and states of a program of one warp
CHUNK = 4  # tokens between two states kept for the backward pass, which holds that many states in registers
CHUNKS = 8  # chunks per program of the backward pass
CHANNELS, BACKWARD_CHANNELS = 32, 16  # channels per program of one warp
ROWS, COLUMNS = 32, 64  # tile of the convolution


def time_scan(
    drive: torch.Tensor,
    intervals: torch.Tensor,
    rate_re: torch.Tensor,
    rate_im: torch.Tensor,
    log_step: torch.Tensor,
    segments: Segments,
    start: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `scan.time_scan`."""
    result: tuple[torch.Tensor, torch.Tensor] = TimeScan.apply(  # type: ignore[no-untyped-call]
        drive, intervals, rate_re, rate_im, log_step, start, segments
    )
    return result


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    gate: torch.Tensor,
    a_log: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    skip: torch.Tensor,
    delta_bias: torch.Tensor,
    segments: Segments,
    start: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `scan.selective_scan`."""
    result: tuple[torch.Tensor, torch.Tensor] = SelectiveScan.apply(  # type: ignore[no-untyped-call]
        u, delta, gate, a_log, b, c, skip, delta_bias, start, segments, torch.is_grad_enabled()
    )
    return result


def causal_convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, segments: Segments) -> torch.Tensor:
    """See `scan.causal_convolution`. No inputs precede a window."""
    result: torch.Tensor = Convolution.apply(x, weight, bias, segments)  # type: ignore[no-untyped-call]
    return result


def _accumulator(tensor: torch.Tensor) -> Any:
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor with a dense last axis. There may be gaps between rows, as in a slice."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


class TimeScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        drive: torch.Tensor,
        intervals: torch.Tensor,
        rate_re: torch.Tensor,
        rate_im: torch.Tensor,
        log_step: torch.Tensor,
        start: torch.Tensor | None,
        segments: Segments,
        least: float = 0.0,
        half: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """With `least`, `rate_re` has the logarithms of what the decay exceeds it by. The states are also written to `half`."""
        drive, start = _rows(drive), None if start is None else start.contiguous()
        states, windows = len(rate_re), len(segments)
        # States keep their precision, whatever that of the drive.
        h, final = rate_re.new_empty(drive.shape), rate_re.new_empty(windows, 2 * states)
        block = min(TIME_STATES, triton.next_power_of_2(states))
        time_cuda.time_forward[(windows, triton.cdiv(states, block))](
            drive, intervals, rate_re, rate_im, log_step, segments.offsets, final if start is None else start,
            h, h if half is None else half, final, states, drive.stride(0),
            TIME=TIME, BLOCK=block, ACC=_accumulator(rate_re), LEAST=least, START=start is not None, HALF=half is not None,
            num_warps=1,
        )  # fmt: skip
        ctx.segments, ctx.least = segments, least
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(drive, intervals, rate_re, rate_im, log_step, start, h)
        return h, final

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        drive, intervals, rate_re, rate_im, log_step, start, h = ctx.saved_tensors
        states, windows = len(rate_re), len(ctx.segments)
        grad_h = torch.zeros_like(h) if grads[0] is None else _rows(grads[0])
        grad_final = None if grads[1] is None else grads[1].contiguous()
        block = min(TIME_STATES, triton.next_power_of_2(states))
        blocks = triton.cdiv(states, block)
        grad_drive = drive.new_empty(drive.shape)
        grad_start = None if start is None else torch.empty_like(start)
        grad_intervals = intervals.new_empty(blocks, len(intervals)) if ctx.needs_input_grad[1] else None
        parameters = rate_re.new_empty(windows, 3, states)
        time_cuda.time_backward[(windows, blocks)](
            drive, intervals, rate_re, rate_im, log_step, ctx.segments.offsets, h if start is None else start, h,
            grad_h, h if grad_final is None else grad_final,
            grad_drive, h if grad_intervals is None else grad_intervals, parameters, h if grad_start is None else grad_start,
            len(drive), states, drive.stride(0), grad_h.stride(0),
            TIME=TIME, BLOCK=block, ACC=_accumulator(rate_re), LEAST=ctx.least, START=start is not None,
            FINAL=grad_final is not None, NEED_INTERVALS=grad_intervals is not None, num_warps=1,
        )  # fmt: skip
        on_re, on_im, on_step = parameters.sum(0)
        on_intervals = None if grad_intervals is None else grad_intervals.sum(0)
        return grad_drive, on_intervals, on_re, on_im, on_step, grad_start, None, None, None


class SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        delta: torch.Tensor,
        gate: torch.Tensor,
        a_log: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
        skip: torch.Tensor,
        delta_bias: torch.Tensor,
        start: torch.Tensor | None,
        segments: Segments,
        keep: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        u, delta, gate, b, c = _rows(u), _rows(delta), _rows(gate), _rows(b), _rows(c)
        # The kernels store a state as (states, channels).
        a_log, start = a_log.T.contiguous(), None if start is None else start.transpose(1, 2).contiguous()
        tokens, channels = u.shape
        states, windows = len(a_log), len(segments)
        out, final = u.new_empty(u.shape), a_log.new_empty(windows, *a_log.shape)
        before_gate, steps = (a_log.new_empty(u.shape if keep else (0,)) for _ in range(2))
        kept = a_log.new_empty(segments.slots(CHUNK) if keep else 1, states, channels)
        selective_cuda.selective_forward[(windows, triton.cdiv(channels, CHANNELS))](
            u, delta, gate, a_log, b, c, skip, delta_bias, segments.offsets, final if start is None else start,
            out, before_gate, steps, kept, final,
            tokens, channels, states, u.stride(0), delta.stride(0), gate.stride(0), b.stride(0), c.stride(0),
            CHUNK=CHUNK, BLOCK=CHANNELS, STATES=triton.next_power_of_2(states), ACC=_accumulator(a_log),
            KEEP=keep, START=start is not None, num_warps=1,
        )  # fmt: skip
        ctx.segments, ctx.start, ctx.grad_gate = segments, start is not None, None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, gate, a_log, b, c, skip, before_gate, steps, kept)
        return out, final.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        u, gate, a_log, b, c, skip, before_gate, steps, kept = ctx.saved_tensors
        grad_out = torch.zeros_like(u) if grads[0] is None else _rows(grads[0])
        grad_final = None if grads[1] is None else grads[1].transpose(1, 2).contiguous()
        tokens, channels = u.shape
        states, windows = len(a_log), len(ctx.segments)
        blocks, block_states = triton.cdiv(channels, BACKWARD_CHANNELS), triton.next_power_of_2(states)
        grad_u, grad_delta = u.new_empty(u.shape), u.new_empty(u.shape)
        grad_gate = u.new_empty(u.shape) if ctx.grad_gate is None else ctx.grad_gate
        grad_bc = a_log.new_empty(blocks, tokens, 2 * states)
        grad_start = a_log.new_empty(windows, *a_log.shape) if ctx.start else None
        carried = torch.empty_like(kept)
        grad_y, accumulator = torch.empty_like(steps), _accumulator(a_log)
        selective_cuda.selective_carry[(windows, triton.cdiv(channels, CHANNELS))](
            steps, before_gate, gate, a_log, c, ctx.segments.offsets, grad_out, kept if grad_final is None else grad_final,
            carried, grad_y, grad_gate, kept if grad_start is None else grad_start,
            tokens, channels, states, gate.stride(0), c.stride(0), grad_out.stride(0), grad_gate.stride(0),
            CHUNK=CHUNK, BLOCK=CHANNELS, STATES=block_states, ACC=accumulator,
            START=ctx.start, FINAL=grad_final is not None, num_warps=1,
        )  # fmt: skip
        chunk_first, chunk_last = ctx.segments.chunks(CHUNK)
        programs = triton.cdiv(len(chunk_first), CHUNKS)
        grad_a_log, grad_channel = a_log.new_empty(programs, *a_log.shape), a_log.new_empty(programs, 2, channels)
        selective_cuda.selective_backward[(programs, blocks)](
            u, steps, a_log, b, c, skip, chunk_first, chunk_last, kept, carried, grad_y,
            grad_u, grad_delta, grad_bc, grad_a_log, grad_channel,
            tokens, len(chunk_first), channels, states, u.stride(0), b.stride(0), c.stride(0),
            CHUNK=CHUNK, CHUNKS=CHUNKS, BLOCK=BACKWARD_CHANNELS, STATES=block_states, ACC=accumulator, num_warps=1,
        )  # fmt: skip
        on_b, on_c = grad_bc.sum(0).chunk(2, dim=1)  # autograd changes their type
        on_skip, on_bias = grad_channel.sum(0)
        on_a_log, on_start = grad_a_log.sum(0).T, None if grad_start is None else grad_start.transpose(1, 2)
        return grad_u, grad_delta, grad_gate, on_a_log, on_b, on_c, on_skip, on_bias, on_start, None, None


class Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, segments: Segments) -> torch.Tensor:
        x, weight = _rows(x), weight.contiguous()
        tokens, channels = x.shape
        out, before_silu = x.new_empty(x.shape), x.new_empty(x.shape)
        grid = (triton.cdiv(tokens, ROWS), triton.cdiv(channels, COLUMNS))
        convolution_cuda.convolution_forward[grid](
            x, weight, bias, segments.begins, before_silu, out, tokens, channels, x.stride(0),
            TAPS=weight.shape[1], ROWS=ROWS, BLOCK=COLUMNS, ACC=_accumulator(weight),
        )  # fmt: skip
        ctx.segments, ctx.grad_x = segments, None
        ctx.save_for_backward(x, weight, before_silu)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, before_silu = ctx.saved_tensors
        grad_out = grads[0].contiguous()
        tokens, channels = x.shape
        taps = weight.shape[1]
        grad_x = x.new_empty(x.shape) if ctx.grad_x is None else ctx.grad_x
        grid = (triton.cdiv(tokens, ROWS), triton.cdiv(channels, COLUMNS))
        parameters = weight.new_empty(grid[0], taps + 1, channels)
        convolution_cuda.convolution_backward[grid](
            x, weight, ctx.segments.begins, before_silu, grad_out, grad_x, parameters, tokens, channels,
            x.stride(0), grad_x.stride(0),
            TAPS=taps, ROWS=ROWS, BLOCK=COLUMNS, ACC=_accumulator(weight),
        )  # fmt: skip
        summed = parameters.sum(0)
        return grad_x, summed[:taps].T, summed[taps], None
