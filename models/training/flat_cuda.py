"""Triton kernels of the end of a training step, on all weights as one vector: norm, clipping, AdamW and the running average.

Sums have one number per program and are added in a fixed order, so the same gradients give the same step.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["decide", "sum_of_squares", "update"]


@triton.jit(do_not_specialize=["count"])
def sum_of_squares(gradients, sums, count, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(gradients + i, i < count, other=0.0)
    tl.store(sums + tl.program_id(0), tl.sum(value * value, axis=0))


@triton.jit(do_not_specialize=["parts", "decay", "clip_norm"])
def decide(
    sums, parts, loss, rates, step, total, first_bad, bad_loss, steps, averaged, factors, decay, clip_norm,
    LOG_BETA_1: tl.constexpr, LOG_BETA_2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add to the counts, and write the numbers that `update` needs to `factors` (7,).

    These are the learning rate, the factor of the gradients, the two corrections of AdamW's means, the share of the new weights in
    their average, and whether this step is left out, and whether it is the first one.
    """
    square = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, parts, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        square += tl.load(sums + i, i < parts, other=0.0)
    norm = tl.sqrt(tl.sum(square, axis=0))
    here, value, found = tl.load(step), tl.load(loss), tl.load(first_bad)
    bad = ((norm < float("inf")) & (tl.abs(value) < float("inf"))) == 0  # NaN is not less than anything
    first = bad & (found < 0)
    tl.store(first_bad, tl.where(first, here, found))
    tl.store(bad_loss, tl.where(first, value, tl.load(bad_loss)))
    skip = first | (found >= 0)
    taken = tl.where(skip, 0.0, 1.0)
    count, average = tl.load(steps) + taken, tl.load(averaged) + 1.0
    tl.store(steps, count)
    tl.store(averaged, average)
    tl.store(total, tl.load(total) + value)
    tl.store(step, here + 1)
    tl.store(factors, tl.load(rates + here))
    tl.store(factors + 1, tl.minimum(clip_norm / (norm + 1e-6), 1.0))
    exponent = count.to(tl.float64)
    tl.store(factors + 2, 1 / (1 - tl.exp(exponent * LOG_BETA_1)))
    tl.store(factors + 3, 1 / tl.sqrt(1 - tl.exp(exponent * LOG_BETA_2)))
    tl.store(factors + 4, tl.where(average > 1, 1 - tl.minimum((1 + average) / (10 + average), decay), 1.0))
    tl.store(factors + 5, 1 - taken)
    tl.store(factors + 6, tl.where(first, 1.0, 0.0))


@triton.jit(do_not_specialize=["count", "decayed", "weight_decay"])
def update(
    values, gradients, means, squares, averages, bad, factors, count, decayed, weight_decay,
    BETA_1: tl.constexpr, BETA_2: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr, AVERAGE: tl.constexpr,
):  # fmt: skip
    """Take AdamW's step and update the average. Of the first step that is left out, `bad` tells which parts of the gradients are not finite."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    gradient = tl.load(gradients + i, inside, other=0.0)
    if tl.load(factors + 5) == 0:
        rate = tl.load(factors)
        gradient = gradient * tl.load(factors + 1)
        value = tl.load(values + i, inside, other=0.0)
        mean = BETA_1 * tl.load(means + i, inside, other=0.0) + (1 - BETA_1) * gradient
        square = BETA_2 * tl.load(squares + i, inside, other=0.0) + (1 - BETA_2) * gradient * gradient
        value = tl.where(i < decayed, value * (1 - rate * weight_decay), value)
        value -= rate * tl.load(factors + 2) * mean / (tl.sqrt(square) * tl.load(factors + 3) + EPSILON)
        tl.store(values + i, value, inside)
        tl.store(means + i, mean, inside)
        tl.store(squares + i, square, inside)
        if AVERAGE:
            average = tl.load(averages + i, inside, other=0.0)
            tl.store(averages + i, average + tl.load(factors + 4) * (value - average), inside)
    else:
        if tl.load(factors + 6) != 0:
            tl.store(bad + tl.program_id(0), tl.max(tl.where(tl.abs(gradient) < float("inf"), 0.0, 1.0), axis=0))
