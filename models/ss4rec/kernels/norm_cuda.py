"""Triton kernels of what lies between two layers: LN(x + Dropout(y + skip x)), and its gradients.

Both passes read x and y and compute everything else, so nothing is stored for the backward pass: the dropout draws the same numbers
again from its seed. Sums over tokens go to one row per program and never use atomics, so the same input gives the same gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["norm_backward", "norm_forward"]


@triton.jit
def _kept(seed, place, DROPPED: tl.constexpr):
    """Return whether values are kept: one random byte each, of the four in a random number for four neighbours."""
    drawn = tl.randint(tl.load(seed), (place >> 2).to(tl.int32))
    return ((drawn >> ((place & 3) * 8).to(tl.int32)) & 255) >= DROPPED


@triton.jit
def _normalised(x, y, skip, j, inside, mask, place, y_place, seed, width, epsilon, SKIP: tl.constexpr, DROPPED: tl.constexpr,
    ACC: tl.constexpr):  # fmt: skip
    """Return x, which values are kept, the normalised sum and the inverse of its deviation."""
    given = tl.load(x + place, mask, other=0.0).to(ACC)
    value = tl.load(y + y_place, mask, other=0.0).to(ACC)
    if SKIP:
        value += tl.load(skip + j, inside, other=0.0).to(ACC)[None, :] * given
    kept = mask
    if DROPPED > 0:
        kept = mask & _kept(seed, place, DROPPED)
        value = tl.where(kept, value * (256 / (256 - DROPPED)), 0.0)
    value += given
    centred = tl.where(mask, value - (tl.sum(value, axis=1) / width)[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / width + epsilon)
    return given, kept, centred * inverse[:, None], inverse


@triton.jit(do_not_specialize=["tokens"])
def norm_forward(
    x, y, skip, weight, bias, seed, out, half, tokens, width, y_stride, epsilon,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr, SKIP: tl.constexpr, DROPPED: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = tl.arange(0, BLOCK)
    inside = j < width
    mask = (t < tokens)[:, None] & inside[None, :]
    place, y_place = t[:, None] * width + j[None, :], t[:, None] * y_stride + j[None, :]
    _, _, unit, _ = _normalised(x, y, skip, j, inside, mask, place, y_place, seed, width, epsilon, SKIP, DROPPED, ACC)
    value = unit * tl.load(weight + j, inside, other=0.0).to(ACC)[None, :] + tl.load(bias + j, inside, other=0.0).to(ACC)[None, :]
    tl.store(out + place, value, mask)
    if HALF:
        tl.store(half + place, value, mask)


@triton.jit(do_not_specialize=["tokens", "each"])
def norm_backward(
    x, y, skip, weight, seed, grad_out, grad_half, grad_x, grad_y, grad_parameters, tokens, each, width, y_stride, epsilon,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr, SKIP: tl.constexpr, DROPPED: tl.constexpr, OUT: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    j = tl.arange(0, BLOCK)
    inside = j < width
    scale = tl.load(weight + j, inside, other=0.0).to(ACC)[None, :]
    on_weight = tl.zeros([ROWS, BLOCK], ACC)
    on_bias = tl.zeros([ROWS, BLOCK], ACC)
    on_skip = tl.zeros([ROWS, BLOCK], ACC)
    first = tl.program_id(0).to(tl.int64) * each
    for begin in range(first, tl.minimum(first + each, tokens), ROWS):
        t = begin + tl.arange(0, ROWS)
        mask = (t < tl.minimum(first + each, tokens))[:, None] & inside[None, :]
        place, y_place = t[:, None] * width + j[None, :], t[:, None] * y_stride + j[None, :]
        dout = tl.zeros([ROWS, BLOCK], ACC)
        if OUT:
            dout += tl.load(grad_out + place, mask, other=0.0).to(ACC)
        if HALF:
            dout += tl.load(grad_half + place, mask, other=0.0).to(ACC)
        given, kept, unit, inverse = _normalised(
            x, y, skip, j, inside, mask, place, y_place, seed, width, epsilon, SKIP, DROPPED, ACC
        )
        on_weight += dout * unit
        on_bias += dout
        on_unit = dout * scale
        along, mean = tl.sum(on_unit * unit, axis=1) / width, tl.sum(on_unit, axis=1) / width
        on_sum = (on_unit - mean[:, None] - unit * along[:, None]) * inverse[:, None]
        on_value = tl.where(kept, on_sum * (256 / (256 - DROPPED)), 0.0)
        tl.store(grad_y + place, on_value, mask)
        if SKIP:
            on_skip += on_value * given
            on_sum += on_value * tl.load(skip + j, inside, other=0.0).to(ACC)[None, :]
        tl.store(grad_x + place, on_sum, mask)
    row = grad_parameters + tl.program_id(0).to(tl.int64) * 3 * width + j
    tl.store(row, tl.sum(on_weight, axis=0), inside)
    tl.store(row + width, tl.sum(on_bias, axis=0), inside)
    tl.store(row + 2 * width, tl.sum(on_skip, axis=0), inside)
