"""Triton kernels of the two recurrences and of the convolution between them.

A program processes one window and a block of channels. It keeps the state in registers for the whole window and computes the
discretisation as it goes. Registers hold (states, channels) with channels across the lanes, so the sum over states that makes
an output stays mostly within a thread. For the backward pass, the state is kept once per CHUNK tokens; the tokens in between
are recomputed in registers, all chunks at once. Sums over tokens go to one row per program and never use atomics, so the same
input gives the same gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "convolution_backward",
    "convolution_forward",
    "selective_backward",
    "selective_carry",
    "selective_forward",
    "time_backward",
    "time_forward",
]

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
# Below exp(-30) a state is forgotten: its angle no longer matters, and small angles avoid the slow range reduction.
FORGOTTEN: tl.constexpr = tl.constexpr(-30.0)


@triton.jit
def _expm1(x):
    """Compute exp(x) - 1 for x <= 0, by a series (Horner, degree 7) if the difference would cancel."""
    series = 1 + x / 7
    series = 1 + x / 6 * series
    series = 1 + x / 5 * series
    series = 1 + x / 4 * series
    series = 1 + x / 3 * series
    series = 1 + x / 2 * series
    return tl.where(x > -0.35, x * series, tl.exp(x) - 1)


@triton.jit
def _discretise(interval, rate_re, rate_im, step):
    """Return exp(z) and (exp(z) - 1) / Lambda as four reals, with z = Lambda step interval."""
    length = step * interval
    x = rate_re * length
    w = tl.where(x > FORGOTTEN, rate_im * length, 0.0)
    growth = _expm1(tl.maximum(x, -80.0))
    half_sin = tl.sin(w * 0.5)
    half_cos = tl.cos(w * 0.5)
    change_re = growth * (1 - 2 * half_sin * half_sin) - 2 * half_sin * half_sin
    change_im = (growth + 1) * 2 * half_sin * half_cos
    norm = 1 / (rate_re * rate_re + rate_im * rate_im)
    hold_re = (change_re * rate_re + change_im * rate_im) * norm
    hold_im = (change_im * rate_re - change_re * rate_im) * norm
    return change_re + 1, change_im, hold_re, hold_im


@triton.jit(do_not_specialize=["tokens"])
def time_forward(
    drive, intervals, rate_re, rate_im, steps, offsets, start, h, final,
    tokens, states, drive_stride,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0)
    p = tl.arange(0, BLOCK)
    inside = p < states
    lambda_re = tl.load(rate_re + p, inside, other=-1.0).to(ACC)
    lambda_im = tl.load(rate_im + p, inside, other=0.0).to(ACC)
    step = tl.load(steps + p, inside, other=1.0).to(ACC)
    re = tl.load(start + window * 2 * states + p, inside, other=0.0).to(ACC)
    im = tl.load(start + window * 2 * states + states + p, inside, other=0.0).to(ACC)
    first = tl.load(offsets + window).to(tl.int64)
    last = tl.load(offsets + window + 1).to(tl.int64)
    ahead = tl.minimum(first, tokens - 1)  # an empty window reads a token of another one, for nothing
    next_interval = tl.load(intervals + ahead).to(ACC)
    next_re = tl.load(drive + ahead * drive_stride + p, inside, other=0.0).to(ACC)
    next_im = tl.load(drive + ahead * drive_stride + states + p, inside, other=0.0).to(ACC)
    for t in range(first, last):
        interval, drive_re, drive_im = next_interval, next_re, next_im
        ahead = tl.minimum(t + 1, last - 1)
        next_interval = tl.load(intervals + ahead).to(ACC)
        next_re = tl.load(drive + ahead * drive_stride + p, inside, other=0.0).to(ACC)
        next_im = tl.load(drive + ahead * drive_stride + states + p, inside, other=0.0).to(ACC)
        a_re, a_im, hold_re, hold_im = _discretise(interval, lambda_re, lambda_im, step)
        was_re = re
        re = a_re * re - a_im * im + hold_re * drive_re - hold_im * drive_im
        im = a_re * im + a_im * was_re + hold_re * drive_im + hold_im * drive_re
        tl.store(h + t * 2 * states + p, re, inside)
        tl.store(h + t * 2 * states + states + p, im, inside)
    tl.store(final + window * 2 * states + p, re, inside)
    tl.store(final + window * 2 * states + states + p, im, inside)


@triton.jit(do_not_specialize=["tokens"])
def time_backward(
    drive, intervals, rate_re, rate_im, steps, offsets, start, h, grad_h, grad_final,
    grad_drive, grad_intervals, grad_parameters, grad_start,
    tokens, states, drive_stride, grad_stride,
    BLOCK: tl.constexpr, ACC: tl.constexpr, NEED_INTERVALS: tl.constexpr,
):  # fmt: skip
    """Complex gradients are dL/dRe + i dL/dIm. Backpropagation through a holomorphic f multiplies them by conj(f')."""
    window = tl.program_id(0)
    p = tl.arange(0, BLOCK)
    inside = p < states
    lambda_re = tl.load(rate_re + p, inside, other=-1.0).to(ACC)
    lambda_im = tl.load(rate_im + p, inside, other=0.0).to(ACC)
    step = tl.load(steps + p, inside, other=1.0).to(ACC)
    norm = 1 / (lambda_re * lambda_re + lambda_im * lambda_im)
    re = tl.load(grad_final + window * 2 * states + p, inside, other=0.0).to(ACC)
    im = tl.load(grad_final + window * 2 * states + states + p, inside, other=0.0).to(ACC)
    start_re = tl.load(start + window * 2 * states + p, inside, other=0.0).to(ACC)
    start_im = tl.load(start + window * 2 * states + states + p, inside, other=0.0).to(ACC)
    on_rate_re = tl.zeros([BLOCK], ACC)
    on_rate_im = tl.zeros([BLOCK], ACC)
    on_step = tl.zeros([BLOCK], ACC)
    first = tl.load(offsets + window).to(tl.int64)
    last = tl.load(offsets + window + 1).to(tl.int64)
    ahead = tl.minimum(tl.maximum(last - 1, 0), tokens - 1)
    before = h + tl.minimum(tl.maximum(ahead - 1, first), tokens - 1) * 2 * states + p
    next_interval = tl.load(intervals + ahead)
    next_drive_re = tl.load(drive + ahead * drive_stride + p, inside, other=0.0)
    next_drive_im = tl.load(drive + ahead * drive_stride + states + p, inside, other=0.0)
    next_grad_re = tl.load(grad_h + ahead * grad_stride + p, inside, other=0.0)
    next_grad_im = tl.load(grad_h + ahead * grad_stride + states + p, inside, other=0.0)
    next_h_re = tl.load(before, inside, other=0.0)
    next_h_im = tl.load(before + states, inside, other=0.0)
    for back in range(last - first):
        t = last - 1 - back
        interval, drive_re, drive_im = next_interval.to(ACC), next_drive_re.to(ACC), next_drive_im.to(ACC)
        re += next_grad_re.to(ACC)
        im += next_grad_im.to(ACC)
        h_re = tl.where(t > first, next_h_re.to(ACC), start_re)
        h_im = tl.where(t > first, next_h_im.to(ACC), start_im)
        ahead = tl.maximum(t - 1, first)
        before = h + tl.maximum(ahead - 1, first) * 2 * states + p
        next_interval = tl.load(intervals + ahead)
        next_drive_re = tl.load(drive + ahead * drive_stride + p, inside, other=0.0)
        next_drive_im = tl.load(drive + ahead * drive_stride + states + p, inside, other=0.0)
        next_grad_re = tl.load(grad_h + ahead * grad_stride + p, inside, other=0.0)
        next_grad_im = tl.load(grad_h + ahead * grad_stride + states + p, inside, other=0.0)
        next_h_re = tl.load(before, inside, other=0.0)
        next_h_im = tl.load(before + states, inside, other=0.0)
        a_re, a_im, hold_re, hold_im = _discretise(interval, lambda_re, lambda_im, step)
        tl.store(grad_drive + t * 2 * states + p, hold_re * re + hold_im * im, inside)
        tl.store(grad_drive + t * 2 * states + states + p, hold_re * im - hold_im * re, inside)
        hold_grad_re = re * drive_re + im * drive_im
        hold_grad_im = im * drive_re - re * drive_im
        # conj(1 / Lambda) = Lambda / |Lambda|^2
        scaled_re = (hold_grad_re * lambda_re - hold_grad_im * lambda_im) * norm
        scaled_im = (hold_grad_re * lambda_im + hold_grad_im * lambda_re) * norm
        a_grad_re = re * h_re + im * h_im + scaled_re
        a_grad_im = im * h_re - re * h_im + scaled_im
        z_grad_re = a_grad_re * a_re + a_grad_im * a_im
        z_grad_im = a_grad_im * a_re - a_grad_re * a_im
        on_rate_re += z_grad_re * step * interval - (scaled_re * hold_re + scaled_im * hold_im)
        on_rate_im += z_grad_im * step * interval - (scaled_im * hold_re - scaled_re * hold_im)
        through_step = (z_grad_re * lambda_re + z_grad_im * lambda_im) * step
        on_step += through_step * interval
        if NEED_INTERVALS:
            tl.store(grad_intervals + t, tl.sum(tl.where(inside, through_step, 0.0), axis=0))
        was_re = re
        re = a_re * re + a_im * im
        im = a_re * im - a_im * was_re
    tl.store(grad_start + window * 2 * states + p, re, inside)
    tl.store(grad_start + window * 2 * states + states + p, im, inside)
    row = grad_parameters + window * 3 * states + p
    tl.store(row, on_rate_re, inside)
    tl.store(row + states, on_rate_im, inside)
    tl.store(row + 2 * states, on_step, inside)


@triton.jit
def _softplus(x):
    return tl.where(x > 20.0, x, tl.log(1 + tl.exp(tl.minimum(x, 20.0))))


@triton.jit(do_not_specialize=["tokens"])
def selective_forward(
    u, delta, gate, a_log, b, c, skip, delta_bias, offsets, start, out, before_gate, steps, kept, final,
    tokens, channels, states, u_stride, delta_stride, gate_stride, b_stride, c_stride,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    in_d, in_n = d < channels, n < states
    inside = in_n[:, None] & in_d[None, :]
    tile = n[:, None] * channels + d[None, :]  # of (states, channels): lanes lie along channels
    rate = -tl.exp(tl.load(a_log + tile, inside, other=0.0).to(ACC)) * LOG2_E
    bias = tl.load(delta_bias + d, in_d, other=0.0).to(ACC)
    through = tl.load(skip + d, in_d, other=0.0).to(ACC)
    h = tl.load(start + window * states * channels + tile, inside, other=0.0).to(ACC)
    first = tl.load(offsets + window).to(tl.int64)
    last = tl.load(offsets + window + 1).to(tl.int64)
    slot = first // CHUNK + window
    ahead = tl.minimum(first, tokens - 1)
    next_u = tl.load(u + ahead * u_stride + d, in_d, other=0.0)
    next_delta = tl.load(delta + ahead * delta_stride + d, in_d, other=0.0)
    next_gate = tl.load(gate + ahead * gate_stride + d, in_d, other=0.0)
    next_b = tl.load(b + ahead * b_stride + n, in_n, other=0.0)
    next_c = tl.load(c + ahead * c_stride + n, in_n, other=0.0)
    for t in range(first, last):
        if KEEP:
            if (t - first) % CHUNK == 0:
                tl.store(kept + (slot + (t - first) // CHUNK) * states * channels + tile, h, inside)
        signal, raw, opening = next_u.to(ACC), next_delta.to(ACC), next_gate.to(ACC)
        write, read = next_b.to(ACC), next_c.to(ACC)
        ahead = tl.minimum(t + 1, last - 1)
        next_u = tl.load(u + ahead * u_stride + d, in_d, other=0.0)
        next_delta = tl.load(delta + ahead * delta_stride + d, in_d, other=0.0)
        next_gate = tl.load(gate + ahead * gate_stride + d, in_d, other=0.0)
        next_b = tl.load(b + ahead * b_stride + n, in_n, other=0.0)
        next_c = tl.load(c + ahead * c_stride + n, in_n, other=0.0)
        step = _softplus(raw + bias)
        h = tl.exp2(step[None, :] * rate) * h + (step * signal)[None, :] * write[:, None]
        y = tl.sum(h * read[:, None], axis=0) + through * signal
        tl.store(out + t * channels + d, y * opening / (1 + tl.exp(-opening)), in_d)
        if KEEP:
            tl.store(before_gate + t * channels + d, y, in_d)
            tl.store(steps + t * channels + d, step, in_d)
    tl.store(final + window * states * channels + tile, h, inside)


@triton.jit
def selective_carry(
    steps, before_gate, gate, a_log, c, offsets, grad_out, grad_final, carried, grad_y, grad_gate, grad_start,
    tokens, channels, states, gate_stride, c_stride, grad_stride,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Walk back over a window and store the gradient of the state that leaves each chunk.

    This is the only part of the backward pass that is sequential over the window. It also computes the gradients of the gate
    and of the output before the gate.
    """
    window = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    in_d, in_n = d < channels, n < states
    inside = in_n[:, None] & in_d[None, :]
    tile = n[:, None] * channels + d[None, :]
    rate = -tl.exp(tl.load(a_log + tile, inside, other=0.0).to(ACC)) * LOG2_E
    first = tl.load(offsets + window).to(tl.int64)
    last = tl.load(offsets + window + 1).to(tl.int64)
    slot = first // CHUNK + window
    g = tl.load(grad_final + window * states * channels + tile, inside, other=0.0).to(ACC)
    ahead = tl.minimum(tl.maximum(last - 1, 0), tokens - 1)
    next_step = tl.load(steps + ahead * channels + d, in_d, other=0.0)
    next_y = tl.load(before_gate + ahead * channels + d, in_d, other=0.0)
    next_gate = tl.load(gate + ahead * gate_stride + d, in_d, other=0.0)
    next_dout = tl.load(grad_out + ahead * grad_stride + d, in_d, other=0.0)
    next_c = tl.load(c + ahead * c_stride + n, in_n, other=0.0)
    for back in range(last - first):
        t = last - 1 - back
        if (t - first) % CHUNK == CHUNK - 1 or back == 0:
            tl.store(carried + (slot + (t - first) // CHUNK) * states * channels + tile, g, inside)
        step, y = next_step.to(ACC), next_y.to(ACC)
        opening, dout, read = next_gate.to(ACC), next_dout.to(ACC), next_c.to(ACC)
        ahead = tl.maximum(t - 1, first)
        next_step = tl.load(steps + ahead * channels + d, in_d, other=0.0)
        next_y = tl.load(before_gate + ahead * channels + d, in_d, other=0.0)
        next_gate = tl.load(gate + ahead * gate_stride + d, in_d, other=0.0)
        next_dout = tl.load(grad_out + ahead * grad_stride + d, in_d, other=0.0)
        next_c = tl.load(c + ahead * c_stride + n, in_n, other=0.0)
        share = 1 / (1 + tl.exp(-opening))
        dy = dout * opening * share
        tl.store(grad_y + t * channels + d, dy, in_d)
        tl.store(grad_gate + t * channels + d, dout * y * share * (1 + opening * (1 - share)), in_d)
        g = (g + dy[None, :] * read[:, None]) * tl.exp2(step[None, :] * rate)
    tl.store(grad_start + window * states * channels + tile, g, inside)


@triton.jit
def selective_backward(
    u, steps, a_log, b, c, skip, chunk_first, chunk_last, kept, carried, grad_y,
    grad_u, grad_delta, grad_bc, grad_a_log, grad_channel,
    tokens, chunks, channels, states, u_stride, b_stride, c_stride,
    CHUNK: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Compute all gradients of CHUNKS chunks and a block of channels.

    A chunk's states are recomputed into registers and then walked back from the gradient that `selective_carry` stored. Chunks
    do not wait for each other.
    """
    program = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64)
    d = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    in_d, in_n = d < channels, n < states
    inside = in_n[:, None] & in_d[None, :]
    tile = n[:, None] * channels + d[None, :]
    rate = -tl.exp(tl.load(a_log + tile, inside, other=0.0).to(ACC)) * LOG2_E
    through = tl.load(skip + d, in_d, other=0.0).to(ACC)
    on_rate = tl.zeros([STATES, BLOCK], ACC)
    on_skip = tl.zeros([BLOCK], ACC)
    on_bias = tl.zeros([BLOCK], ACC)
    for chunk in range(program * CHUNKS, tl.minimum((program + 1) * CHUNKS, chunks)):
        first = tl.load(chunk_first + chunk).to(tl.int64)
        last = tl.load(chunk_last + chunk).to(tl.int64)
        if first < last:
            h = tl.load(kept + chunk * states * channels + tile, inside, other=0.0).to(ACC)
            history = (h,)
            for i in tl.static_range(CHUNK):
                # Past the window's end a step of zero length leaves the state as it is.
                t = tl.minimum(first + i, last - 1)
                step = tl.where(first + i < last, tl.load(steps + t * channels + d, in_d, other=0.0).to(ACC), 0.0)
                signal = tl.load(u + t * u_stride + d, in_d, other=0.0).to(ACC)
                write = tl.load(b + t * b_stride + n, in_n, other=0.0).to(ACC)
                h = tl.exp2(step[None, :] * rate) * h + (step * signal)[None, :] * write[:, None]
                history = history + (h,)
            g = tl.load(carried + chunk * states * channels + tile, inside, other=0.0).to(ACC)
            for i in tl.static_range(CHUNK - 1, -1, -1):
                t = tl.minimum(first + i, last - 1)
                real = first + i < last
                step = tl.where(real, tl.load(steps + t * channels + d, in_d, other=0.0).to(ACC), 0.0)
                signal = tl.load(u + t * u_stride + d, in_d, other=0.0).to(ACC)
                dy = tl.where(real, tl.load(grad_y + t * channels + d, in_d, other=0.0).to(ACC), 0.0)
                write = tl.load(b + t * b_stride + n, in_n, other=0.0).to(ACC)
                read = tl.load(c + t * c_stride + n, in_n, other=0.0).to(ACC)
                g += dy[None, :] * read[:, None]
                row = grad_bc + (block * tokens + t) * 2 * states + n
                tl.store(row, tl.sum(g * (step * signal)[None, :], axis=1), in_n & (first + i + n * 0 < last))
                tl.store(row + states, tl.sum(dy[None, :] * history[i + 1], axis=1), in_n & (first + i + n * 0 < last))
                on_drive = tl.sum(g * write[:, None], axis=0)
                g = g * tl.exp2(step[None, :] * rate)
                moved = g * history[i]
                on_step = tl.sum(moved * rate, axis=0) / LOG2_E + on_drive * signal
                on_rate += moved * step[None, :]
                in_chunk = in_d & (first + i + d * 0 < last)
                tl.store(grad_u + t * channels + d, on_drive * step + dy * through, in_chunk)
                on_raw = on_step * -_expm1(-step)  # the slope of softplus, by its own value; 0 at the steps of no length
                tl.store(grad_delta + t * channels + d, on_raw, in_chunk)
                on_bias += on_raw
                on_skip += dy * signal
    # A = -exp(a_log), so dA / da_log = A.
    tl.store(grad_a_log + program * states * channels + tile, on_rate * rate / LOG2_E, inside)
    tl.store(grad_channel + program * 2 * channels + d, on_skip, in_d)
    tl.store(grad_channel + (program * 2 + 1) * channels + d, on_bias, in_d)


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
