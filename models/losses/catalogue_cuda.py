"""The Triton kernel of the loss over the catalogue: it replaces a row of logits with its gradient, in place."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["softmax_gradient"]

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["items"])
def softmax_gradient(
    logits, targets, losses, scale, items, smoothing,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Replace a row of logits with scale times the gradient of its smoothed cross-entropy; 0 if target < 0."""
    token = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + token)
    factor = tl.load(scale)
    row = logits + token * items
    highest = -float("inf")
    total = 0.0
    summed = 0.0
    for begin in range(0, items, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        inside = i < items
        value = tl.load(row + i, inside, other=-float("inf")).to(tl.float32)
        peak = tl.maximum(highest, tl.max(value, axis=0))
        total = total * tl.exp2((highest - peak) * LOG2_E) + tl.sum(tl.exp2((value - peak) * LOG2_E), axis=0)
        summed += tl.sum(tl.where(inside, value, 0.0), axis=0)
        highest = peak
    chosen = tl.load(row + tl.maximum(target, 0)).to(tl.float32)
    loss = highest + tl.log(total) - (1 - smoothing) * chosen - smoothing * summed / items
    tl.store(losses + token, tl.where(target >= 0, loss, 0.0))
    weight = tl.where(target >= 0, factor, 0.0)
    tl.debug_barrier()
    for begin in range(0, items, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        inside = i < items
        value = tl.load(row + i, inside, other=0.0).to(tl.float32)
        share = tl.exp2((value - highest) * LOG2_E) / total - smoothing / items
        share = tl.where(i == target, share - (1 - smoothing), share)
        tl.store(row + i, share * weight, inside)
