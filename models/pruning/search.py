"""Finds the best items of a user in blocks of items, and passes over those whose bounds show that they are not among the best."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compiled import jit
from models.pruning.blocks import LEVELS, ROW, TAIL, UP, WIDTH, Doubles, Floats

__all__ = ["Found", "Question", "search"]

LEADERS = 16  # blocks that are searched first, because the best items are probably there
MOST_SUM = 32_000  # of the products of a stage, whose sums are 16-bit integers
ROUNDING = 2.5 * 2.0**-24  # of a product of vectors in float32, computed twice, for each number and of both lengths
TINY = 1e-36  # covers what is lost in numbers near 0
IntArray = npt.NDArray[np.int64]


class Question(NamedTuple):
    """What is searched for."""

    user: Floats  # (H,)
    allowed: npt.NDArray[np.bool_]  # (n,) items that may be found, or (0,) for all
    closed: IntArray  # (m,) items that may not be found, ascending


class Found(NamedTuple):
    """Room for what is found."""

    least: Doubles  # (count,) the greatest scores, each less its rounding, best first
    items: npt.NDArray[np.int32]  # (room,) items that may be among the best
    scores: Doubles  # (room,) their scores, each with its rounding added


class Bounds(NamedTuple):
    """What a user's vector says of each block."""

    query: Floats  # (P,) the turned vector
    lengths: Floats  # (S,) of what each stage leaves unread of it
    length: float
    bases: Doubles  # (blocks,) the score of the centre
    most: Doubles  # (blocks,) the greatest score that an item can have
    lean: Doubles  # (blocks,) rounding of an item's score
    first: IntArray  # (leaders,) the blocks with the greatest `most`


@jit
def _bounds(blocks: Any, user: Any) -> Any:
    width, padded = blocks.turn.shape
    turned = np.zeros(padded)
    for j in range(width):
        for d in range(padded):
            turned[d] += np.float64(user[j]) * blocks.turn[j, d]
    query, lengths = turned.astype(np.float32), np.empty(len(blocks.ends), np.float32)
    squares, begin, read = 0.0, padded, 0.0
    for stage in range(len(blocks.ends) - 1, -1, -1):
        for d in range(blocks.ends[stage], begin):
            squares += turned[d] * turned[d]
        begin = blocks.ends[stage]
        lengths[stage] = np.sqrt(squares) * UP
    for d in range(begin):
        read += turned[d] * turned[d]
    length, nearest, rest = np.sqrt(read + squares) * UP, np.sqrt(read) * UP, np.sqrt(squares) * UP
    count = len(blocks.order)
    bases, most, lean = np.empty(count), np.empty(count), np.empty(count)
    leaders = min(LEADERS, count)
    first, greatest = np.zeros(leaders, np.int64), np.full(leaders, -np.inf)
    for block in range(count):
        base, centre = 0.0, blocks.centres[block]
        for d in range(padded):
            base += np.float64(centre[d]) * turned[d]
        lean[block] = ROUNDING * (width + 4) * blocks.norms[block] * length + TINY
        value = base + blocks.radii[block, 0] * nearest + blocks.radii[block, 1] * rest + lean[block]
        bases[block], most[block] = base, value
        if value > greatest[leaders - 1]:
            place = leaders - 1
            while place > 0 and greatest[place - 1] < value:
                greatest[place], first[place] = greatest[place - 1], first[place - 1]
                place -= 1
            greatest[place], first[place] = value, block
    return Bounds(query, lengths, length, bases, most, lean, first)


@jit
def search(vectors: Any, blocks: Any, question: Any, found: Any, most_tried: Any) -> Any:
    """Write all items to `found` that can be among the best, and return how many there are.

    The best are among them, with ties and with any rounding of a score in float32. Return -1 if more than `most_tried` products of
    vectors were needed, or if there was no room. The arrays of `found` decide how many of the best count.
    """
    bounds = _bounds(blocks, question.user)
    found.least[:] = -np.inf
    kept, tried, last = 0, 0, len(found.least) - 1
    sums, opened = np.empty(WIDTH, np.float32), np.zeros(len(blocks.order), np.bool_)
    for turn in range(len(bounds.first) + len(blocks.order)):
        block = bounds.first[turn] if turn < len(bounds.first) else turn - len(bounds.first)
        if opened[block] or bounds.most[block] < found.least[last]:
            continue
        opened[block] = True
        bound = _open(blocks, block, bounds, found.least[last], sums)
        if bound == np.inf:
            continue
        lean = bounds.lean[block]
        for i in range(WIDTH):
            if sums[i] < bound:
                continue
            item = blocks.order[block, i]
            if item < 0 or (len(question.allowed) > 0 and not question.allowed[item]) or _holds(question.closed, item):
                continue
            tried += 1
            if tried > most_tried or kept == len(found.items):
                return -1
            x, score = vectors[item], np.float32(0.0)
            for j in range(len(x)):
                score += x[j] * question.user[j]
            if np.float64(score) + lean < found.least[last]:
                continue
            found.items[kept], found.scores[kept] = item, np.float64(score) + lean
            kept += 1
            _keep(found.least, np.float64(score) - lean)
    left = 0
    for i in range(kept):
        if found.scores[i] >= found.least[last]:
            found.items[left] = found.items[i]
            left += 1
    return left


@jit
def _open(blocks: Any, block: Any, bounds: Any, least: Any, sums: Any) -> Any:
    """Write what the codes of a block's items add to its base to `sums` (WIDTH,).

    Return the sum that an item needs to have a score of `least`, or infinity if none has it.
    """
    padded = len(bounds.query)
    whole, weights, wanted = np.empty(WIDTH, np.int16), np.empty(padded, np.int16), np.empty(padded, np.float32)
    for d in range(padded):
        wanted[d] = blocks.steps[block, d] * bounds.query[d]
    for i in range(WIDTH):
        sums[i] = np.float32(0.0)
    begin, seen, missed = 0, 0.0, 0.0
    base, bound = bounds.bases[block] + blocks.errors[block] * bounds.length + bounds.lean[block], np.float32(np.inf)
    for stage in range(len(blocks.ends)):
        end, total = blocks.ends[stage], np.float32(0.0)
        for d in range(begin, end):
            total += abs(wanted[d])
        unit = max(total * np.float32(LEVELS / MOST_SUM), np.float32(TINY))
        inverse, shift, difference = np.float32(1.0) / unit, np.int64(0), np.float32(0.0)
        for d in range(begin, end):
            weight = np.int16(np.int32(np.floor(wanted[d] * inverse + np.float32(0.5))))
            weights[d] = weight
            shift += np.int64(weight)
            difference += abs(wanted[d] - np.float32(weight) * unit)
        seen += np.float64(total)
        missed += np.float64(difference)
        _add(blocks.codes[block], weights, begin, end, whole)
        begin = end
        base -= np.float64(unit) * shift * (LEVELS / 2)
        tail, scale = blocks.tails[block, stage], blocks.tail_scales[block, stage] * bounds.lengths[stage]
        limit = least - base - missed * (LEVELS / 2)
        limit -= 1e-6 * (abs(limit) + LEVELS * seen + TAIL * np.float64(scale))
        bound, alive = np.float32(limit), 0
        for i in range(WIDTH):
            sums[i] += np.float32(whole[i]) * unit
            alive += sums[i] + np.float32(tail[i]) * scale >= bound
        if alive == 0:
            return np.float32(np.inf)
    return bound


@jit
def _add(codes: Any, weights: Any, begin: Any, end: Any, whole: Any) -> None:
    """Write the products of the codes (P / 2, WIDTH) with some weights to `whole` (WIDTH,). 16 bits are enough for them."""
    for i in range(WIDTH):
        whole[i] = np.int16(0)
    low_half, half = np.int16(15), np.int16(4)
    for d in range(begin, end, ROW):
        first, second = codes[d // 2], codes[d // 2 + 1]
        a, b, c, e = weights[d], weights[d + 1], weights[d + 2], weights[d + 3]
        for i in range(WIDTH):
            x, y = np.int16(first[i]), np.int16(second[i])
            whole[i] = np.int16(whole[i] + (x & low_half) * a + (x >> half) * b + (y & low_half) * c + (y >> half) * e)


@jit
def _holds(items: Any, item: Any) -> Any:
    """Return whether ascending items contain one."""
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < len(items) and items[low] == item


@jit
def _keep(values: Any, value: Any) -> None:
    """Put a value into its place among the greatest, best first."""
    if value > values[len(values) - 1]:
        place = len(values) - 1
        while place > 0 and values[place - 1] < value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
