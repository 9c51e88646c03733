"""Triton kernels of the causal convolution between the two recurrences.

Sums over tokens go to one row per program and never use atomics, so the same input gives the same gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["convolution_backward", "convolution_forward"]


@triton.jit(do_not_specialize=["tokens"])
def convolution_forward(
    x, weight, bias, begins, before_silu, out, tokens, channels, x_stride,
    TAPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_t, in_d = t < tokens, d < channels
    begin = tl.load(begins + t, in_t, other=0)
    total = tl.zeros([ROWS, BLOCK], ACC) + tl.load(bias + d, in_d, other=0.0).to(ACC)[None, :]
    for back in tl.static_range(TAPS):
        seen = (in_t & (t - back >= begin))[:, None] & in_d[None, :]
        factor = tl.load(weight + d * TAPS + TAPS - 1 - back, in_d, other=0.0).to(ACC)
        total += tl.load(x + (t - back)[:, None] * x_stride + d[None, :], seen, other=0.0).to(ACC) * factor[None, :]
    place = t[:, None] * channels + d[None, :]
    tl.store(before_silu + place, total, in_t[:, None] & in_d[None, :])
    tl.store(out + place, total / (1 + tl.exp(-total)), in_t[:, None] & in_d[None, :])


@triton.jit
def convolution_backward(
    x, weight, begins, before_silu, grad_out, grad_x, grad_parameters, tokens, channels, x_stride, grad_x_stride,
    TAPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_t, in_d = t < tokens, d < channels
    on_x = tl.zeros([ROWS, BLOCK], ACC)
    own = tl.load(x + t[:, None] * x_stride + d[None, :], in_t[:, None] & in_d[None, :], other=0.0).to(ACC)
    row = grad_parameters + tl.program_id(0).to(tl.int64) * (TAPS + 1) * channels + d
    for ahead in tl.static_range(TAPS):
        # The output at t + ahead reads x at t, if it lies in the same window.
        later = t + ahead
        in_later = in_t & (later < tokens)
        later_begin = tl.load(begins + later, in_later, other=0)
        same = in_later & (later_begin <= t)
        mask = same[:, None] & in_d[None, :]
        place = later[:, None] * channels + d[None, :]
        total = tl.load(before_silu + place, mask, other=0.0).to(ACC)
        dout = tl.load(grad_out + place, mask, other=0.0).to(ACC)
        share = 1 / (1 + tl.exp(-total))
        on_total = dout * share * (1 + total * (1 - share))
        factor = tl.load(weight + d * TAPS + TAPS - 1 - ahead, in_d, other=0.0).to(ACC)
        on_x += on_total * factor[None, :]
        tl.store(row + (TAPS - 1 - ahead) * channels, tl.sum(on_total * own, axis=0), in_d)
        if ahead == 0:
            tl.store(row + TAPS * channels, tl.sum(on_total, axis=0), in_d)
    tl.store(grad_x + t[:, None] * grad_x_stride + d[None, :], on_x, in_t[:, None] & in_d[None, :])
