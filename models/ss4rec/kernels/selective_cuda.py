"""Triton kernels of the relation-aware recurrence (Mamba's selective scan).

A program processes one window and a block of channels. It keeps the state in registers for the whole window and computes the
discretisation as it goes. Registers hold (states, channels) with channels across the lanes, so the sum over states that makes
an output stays mostly within a thread. For the backward pass, the state is kept once per CHUNK tokens; the tokens in between
are recomputed in registers, all chunks at once. Sums over tokens go to one row per program and never use atomics, so the same
input gives the same gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

from models.ss4rec.kernels.time_cuda import expm1

__all__ = ["selective_backward", "selective_carry", "selective_forward"]

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def _softplus(x):
    return tl.where(x > 20.0, x, tl.log(1 + tl.exp(tl.minimum(x, 20.0))))


@triton.jit(do_not_specialize=["tokens"])
def selective_forward(
    u, delta, gate, a_log, b, c, skip, delta_bias, offsets, start, out, before_gate, steps, kept, final,
    tokens, channels, states, u_stride, delta_stride, gate_stride, b_stride, c_stride,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr, KEEP: tl.constexpr,
    START: tl.constexpr,
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
    if START:
        h = tl.load(start + window * states * channels + tile, inside, other=0.0).to(ACC)
    else:
        h = tl.zeros([STATES, BLOCK], ACC)
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
    tokens, channels, states, gate_stride, c_stride, grad_stride, grad_gate_stride,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
    START: tl.constexpr, FINAL: tl.constexpr,
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
    if FINAL:
        g = tl.load(grad_final + window * states * channels + tile, inside, other=0.0).to(ACC)
    else:
        g = tl.zeros([STATES, BLOCK], ACC)
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
        tl.store(grad_gate + t * grad_gate_stride + d, dout * y * share * (1 + opening * (1 - share)), in_d)
        g = (g + dy[None, :] * read[:, None]) * tl.exp2(step[None, :] * rate)
    if START:
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
                on_raw = on_step * -expm1(-step)  # the slope of softplus, by its own value; 0 at the steps of no length
                tl.store(grad_delta + t * channels + d, on_raw, in_chunk)
                on_bias += on_raw
                on_skip += dy * signal
    # A = -exp(a_log), so dA / da_log = A.
    tl.store(grad_a_log + program * states * channels + tile, on_rate * rate / LOG2_E, inside)
    tl.store(grad_channel + program * 2 * channels + d, on_skip, in_d)
    tl.store(grad_channel + (program * 2 + 1) * channels + d, on_bias, in_d)
