"""Triton kernels of the time-aware recurrence (S5).

A program processes one window and a block of states, a tile of tokens at a time. It discretises the whole tile at once and joins
its tokens by an associative scan, so that the chain of dependent operations is one tile for each TIME tokens and not one token.
Every sum over tokens has one row per window and never uses atomics, so the same input gives the same gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["time_backward", "time_forward"]

# Below exp(-30) a state is forgotten: its angle no longer matters, and small angles avoid the slow range reduction.
FORGOTTEN: tl.constexpr = tl.constexpr(-30.0)


@triton.jit
def expm1(x):
    """Compute exp(x) - 1 for x <= 0, by a series (Horner, degree 7) if the difference would cancel."""
    series = 1 + x / 7
    series = 1 + x / 6 * series
    series = 1 + x / 5 * series
    series = 1 + x / 4 * series
    series = 1 + x / 3 * series
    series = 1 + x / 2 * series
    return tl.where(x > -0.35, x * series, tl.exp(x) - 1)


@triton.jit
def _decay(interval, rate_re, rate_im, step):
    """Return exp(z) - 1 as two reals, with z = Lambda step interval."""
    length = step * interval
    x = rate_re * length
    w = tl.where(x > FORGOTTEN, rate_im * length, 0.0)
    growth = expm1(tl.maximum(x, -80.0))
    half_sin = tl.sin(w * 0.5)
    half_cos = tl.cos(w * 0.5)
    return growth * (1 - 2 * half_sin * half_sin) - 2 * half_sin * half_sin, (growth + 1) * 2 * half_sin * half_cos


@triton.jit
def _parameters(rate_re, rate_im, log_steps, p, inside, ACC: tl.constexpr, LEAST: tl.constexpr):
    """Return Lambda and the steps. With LEAST, Re(Lambda) = -LEAST - exp(rate_re)."""
    lambda_re = tl.load(rate_re + p, inside, other=-1.0).to(ACC)
    if LEAST > 0:
        lambda_re = -LEAST - tl.exp(lambda_re)
    lambda_im = tl.load(rate_im + p, inside, other=0.0).to(ACC)
    return lambda_re, lambda_im, tl.exp(tl.load(log_steps + p, inside, other=0.0).to(ACC))


@triton.jit
def _join(a_re, a_im, b_re, b_im, c_re, c_im, d_re, d_im):
    """Apply h -> a h + b and then h -> c h + d, with complex numbers."""
    return (
        c_re * a_re - c_im * a_im,
        c_re * a_im + c_im * a_re,
        c_re * b_re - c_im * b_im + d_re,
        c_re * b_im + c_im * b_re + d_im,
    )


@triton.jit
def time_forward(
    drive, intervals, rate_re, rate_im, log_steps, offsets, start, h, half, final,
    states, drive_stride,
    TIME: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr, LEAST: tl.constexpr, START: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.arange(0, TIME)
    inside = p < states
    lambda_re, lambda_im, step = _parameters(rate_re, rate_im, log_steps, p, inside, ACC, LEAST)
    norm = 1 / (lambda_re * lambda_re + lambda_im * lambda_im)
    if START:
        re = tl.load(start + window * 2 * states + p, inside, other=0.0).to(ACC)
        im = tl.load(start + window * 2 * states + states + p, inside, other=0.0).to(ACC)
    else:
        re = tl.zeros([BLOCK], ACC)
        im = tl.zeros([BLOCK], ACC)
    first = tl.load(offsets + window).to(tl.int64)
    last = tl.load(offsets + window + 1).to(tl.int64)
    for begin in range(first, last, TIME):
        t = begin + row
        real = t < last
        mask = real[:, None] & inside[None, :]
        # A token past the end has the interval 0, which leaves the state as it is.
        interval = tl.load(intervals + t, real, other=0.0).to(ACC)
        place = drive + t[:, None] * drive_stride + p[None, :]
        drive_re = tl.load(place, mask, other=0.0).to(ACC)
        drive_im = tl.load(place + states, mask, other=0.0).to(ACC)
        change_re, change_im = _decay(interval[:, None], lambda_re[None, :], lambda_im[None, :], step[None, :])
        hold_re = (change_re * lambda_re[None, :] + change_im * lambda_im[None, :]) * norm[None, :]
        hold_im = (change_im * lambda_re[None, :] - change_re * lambda_im[None, :]) * norm[None, :]
        b_re = hold_re * drive_re - hold_im * drive_im
        b_im = hold_re * drive_im + hold_im * drive_re
        a_re, a_im, b_re, b_im = tl.associative_scan((change_re + 1, change_im, b_re, b_im), 0, _join)
        h_re = a_re * re[None, :] - a_im * im[None, :] + b_re
        h_im = a_re * im[None, :] + a_im * re[None, :] + b_im
        place = h + t[:, None] * 2 * states + p[None, :]
        tl.store(place, h_re, mask)
        tl.store(place + states, h_im, mask)
        if HALF:
            place = half + t[:, None] * 2 * states + p[None, :]
            tl.store(place, h_re, mask)
            tl.store(place + states, h_im, mask)
        at_end = (row == TIME - 1)[:, None]
        re = tl.sum(tl.where(at_end, h_re, 0.0), axis=0)
        im = tl.sum(tl.where(at_end, h_im, 0.0), axis=0)
    tl.store(final + window * 2 * states + p, re, inside)
    tl.store(final + window * 2 * states + states + p, im, inside)


@triton.jit(do_not_specialize=["tokens"])
def time_backward(
    drive, intervals, rate_re, rate_im, log_steps, offsets, start, h, grad_h, grad_final,
    grad_drive, grad_intervals, grad_parameters, grad_start,
    tokens, states, drive_stride, grad_stride,
    TIME: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr, LEAST: tl.constexpr, START: tl.constexpr,
    FINAL: tl.constexpr, NEED_INTERVALS: tl.constexpr,
):  # fmt: skip
    """Complex gradients are dL/dRe + i dL/dIm. Backpropagation through a holomorphic f multiplies them by conj(f').

    The rows of a tile run backwards in time: row i of a window's first tile is the i-th token before its end.
    """
    window = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64)
    p = block * BLOCK + tl.arange(0, BLOCK)
    row = tl.arange(0, TIME)
    inside = p < states
    lambda_re, lambda_im, step = _parameters(rate_re, rate_im, log_steps, p, inside, ACC, LEAST)
    norm = 1 / (lambda_re * lambda_re + lambda_im * lambda_im)
    if FINAL:
        re = tl.load(grad_final + window * 2 * states + p, inside, other=0.0).to(ACC)
        im = tl.load(grad_final + window * 2 * states + states + p, inside, other=0.0).to(ACC)
    else:
        re = tl.zeros([BLOCK], ACC)
        im = tl.zeros([BLOCK], ACC)
    on_rate_re = tl.zeros([BLOCK], ACC)
    on_rate_im = tl.zeros([BLOCK], ACC)
    on_step = tl.zeros([BLOCK], ACC)
    first = tl.load(offsets + window).to(tl.int64)
    last = tl.load(offsets + window + 1).to(tl.int64)
    for begin in range(first, last, TIME):
        t = last - 1 - (begin - first) - row
        real = t >= first
        mask = real[:, None] & inside[None, :]
        interval = tl.load(intervals + t, real, other=0.0).to(ACC)
        # The gradient of a state is its own and conj(a) times that of the next state, with the next token's a. The last token has
        # no next one; there, as in the rows before the window, the interval 0 makes it 1.
        next_interval = tl.load(intervals + t + 1, real & (t + 1 < last), other=0.0).to(ACC)
        place = drive + t[:, None] * drive_stride + p[None, :]
        drive_re = tl.load(place, mask, other=0.0).to(ACC)
        drive_im = tl.load(place + states, mask, other=0.0).to(ACC)
        place = grad_h + t[:, None] * grad_stride + p[None, :]
        grad_re = tl.load(place, mask, other=0.0).to(ACC)
        grad_im = tl.load(place + states, mask, other=0.0).to(ACC)
        place = h + (t[:, None] - 1) * 2 * states + p[None, :]
        older = (t > first)[:, None] & inside[None, :]
        h_re = tl.load(place, older, other=0.0).to(ACC)
        h_im = tl.load(place + states, older, other=0.0).to(ACC)
        if START:
            at_start = (t == first)[:, None]
            h_re = tl.where(at_start, tl.load(start + window * 2 * states + p, inside, other=0.0).to(ACC)[None, :], h_re)
            h_im = tl.where(at_start, tl.load(start + window * 2 * states + states + p, inside, other=0.0).to(ACC)[None, :], h_im)
        next_re, next_im = _decay(next_interval[:, None], lambda_re[None, :], lambda_im[None, :], step[None, :])
        a_re, a_im, g_re, g_im = tl.associative_scan((next_re + 1, -next_im, grad_re, grad_im), 0, _join)
        g_re += a_re * re[None, :] - a_im * im[None, :]
        g_im += a_re * im[None, :] + a_im * re[None, :]
        at_end = (row == TIME - 1)[:, None]
        re = tl.sum(tl.where(at_end, g_re, 0.0), axis=0)
        im = tl.sum(tl.where(at_end, g_im, 0.0), axis=0)
        change_re, change_im = _decay(interval[:, None], lambda_re[None, :], lambda_im[None, :], step[None, :])
        hold_re = (change_re * lambda_re[None, :] + change_im * lambda_im[None, :]) * norm[None, :]
        hold_im = (change_im * lambda_re[None, :] - change_re * lambda_im[None, :]) * norm[None, :]
        place = grad_drive + t[:, None] * 2 * states + p[None, :]
        tl.store(place, hold_re * g_re + hold_im * g_im, mask)
        tl.store(place + states, hold_re * g_im - hold_im * g_re, mask)
        hold_grad_re = g_re * drive_re + g_im * drive_im
        hold_grad_im = g_im * drive_re - g_re * drive_im
        # conj(1 / Lambda) = Lambda / |Lambda|^2
        scaled_re = (hold_grad_re * lambda_re[None, :] - hold_grad_im * lambda_im[None, :]) * norm[None, :]
        scaled_im = (hold_grad_re * lambda_im[None, :] + hold_grad_im * lambda_re[None, :]) * norm[None, :]
        a_grad_re = g_re * h_re + g_im * h_im + scaled_re
        a_grad_im = g_im * h_re - g_re * h_im + scaled_im
        z_grad_re = a_grad_re * (change_re + 1) + a_grad_im * change_im
        z_grad_im = a_grad_im * (change_re + 1) - a_grad_re * change_im
        length = step[None, :] * interval[:, None]
        on_rate_re += tl.sum(z_grad_re * length - (scaled_re * hold_re + scaled_im * hold_im), axis=0)
        on_rate_im += tl.sum(z_grad_im * length - (scaled_im * hold_re - scaled_re * hold_im), axis=0)
        through_step = (z_grad_re * lambda_re[None, :] + z_grad_im * lambda_im[None, :]) * step[None, :]
        on_step += tl.sum(through_step * interval[:, None], axis=0)
        if NEED_INTERVALS:
            tl.store(grad_intervals + block * tokens + t, tl.sum(tl.where(inside[None, :], through_step, 0.0), axis=1), real)
    if START:
        interval = tl.load(intervals + first, first < last, other=0.0).to(ACC)
        change_re, change_im = _decay(interval, lambda_re, lambda_im, step)
        tl.store(grad_start + window * 2 * states + p, (change_re + 1) * re + change_im * im, inside)
        tl.store(grad_start + window * 2 * states + states + p, (change_re + 1) * im - change_im * re, inside)
    if LEAST > 0:
        on_rate_re *= lambda_re + LEAST
    place = grad_parameters + window * 3 * states + p
    tl.store(place, on_rate_re, inside)
    tl.store(place + states, on_rate_im, inside)
    tl.store(place + 2 * states, on_step, inside)
