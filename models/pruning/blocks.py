"""Item vectors in blocks of similar items, with half a byte for each number, and what bounds the score of each item.

The vectors are turned so that the first numbers hold most of their length (as FEXIPRO does: Li, Chan, Yiu and Mamoulis, SIGMOD 2017,
section 3). A tree halves the items by one of these numbers until blocks are left. In a block, each number lies between two bounds,
and its code says in which of sixteen steps between them. What a bound needs is rounded away from what it must cover.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compiled import jit

__all__ = ["LEVELS", "ROW", "TAIL", "UP", "WIDTH", "Blocks", "blocks_of"]

WIDTH = 256  # items of a block
ROW = 4  # numbers of each item that are read at once
LEVELS = 15  # greatest code of a number
STAGE = 32  # numbers of a stage, after which a search looks whether an item can still be among the best
TAIL = 255  # greatest code of the length of the numbers that are not read yet
SAMPLE = 1 << 16  # vectors that decide how all are turned
SPREAD_SAMPLE = 512  # items of a part of the tree that decide by which number it is halved
TURNED = 64  # blocks that are turned at once
LEAST = 1e-30  # a step or a scale is never 0
UP = 1 + 1e-6  # covers the rounding of a bound, of float32 or of a sum in float64
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


class Blocks(NamedTuple):
    """The blocks of n items with vectors (n, H). P is H, filled up to a multiple of ROW, and S the number of stages."""

    turn: Doubles  # (H, P) from a vector to its turned form
    ends: npt.NDArray[np.int64]  # (S,) numbers that have been read after each stage; the last is P
    order: npt.NDArray[np.int32]  # (blocks, WIDTH) items; -1 fills the last block
    codes: Bytes  # (blocks, P / 2, WIDTH) two numbers in a byte, the first in the lower half
    centres: Floats  # (blocks, P) what half of LEVELS stands for
    steps: Floats  # (blocks, P) the difference that one level makes
    tails: Bytes  # (blocks, S, WIDTH) lengths of what each stage leaves unread, of the difference from the centre
    tail_scales: Floats  # (blocks, S)
    radii: Doubles  # (blocks, 2) greatest length of a difference from the centre: in the first stage, and after it
    errors: Doubles  # (blocks,) greatest distance between a vector and what its codes say
    norms: Doubles  # (blocks,) greatest length of a vector


def blocks_of(vectors: Floats) -> Blocks:
    """Return the blocks of finite vectors (n, H), at least one."""
    width = vectors.shape[1]
    padded = -(-max(width, 1) // ROW) * ROW
    ends = [*(end for end in (STAGE // 2, *range(STAGE, padded, STAGE)) if end < padded), padded]
    turn = _turn(vectors, padded)
    order = _order(vectors, turn[:, : ends[0]].astype(np.float32))
    count = len(order)
    made = Blocks(
        turn=turn,
        ends=np.array(ends, np.int64),
        order=order,
        codes=np.zeros((count, padded // 2, WIDTH), np.uint8),
        centres=np.empty((count, padded), np.float32),
        steps=np.empty((count, padded), np.float32),
        tails=np.zeros((count, len(ends), WIDTH), np.uint8),
        tail_scales=np.empty((count, len(ends)), np.float32),
        radii=np.empty((count, 2)),
        errors=np.empty(count),
        norms=np.empty(count),
    )
    for begin in range(0, count, TURNED):
        turned = vectors[order[begin : begin + TURNED].ravel()].astype(np.float64) @ turn  # -1 takes any vector
        _encode(made, begin, turned.reshape(-1, WIDTH, padded))
    return made


def _turn(vectors: Floats, padded: int) -> Doubles:
    """Return the orthogonal map (H, P) to numbers in falling order of their mean square."""
    sample = vectors[:: max(1, len(vectors) // SAMPLE)].astype(np.float64)
    directions = np.linalg.eigh(sample.T @ sample / len(sample))[1]
    turn = np.zeros((vectors.shape[1], padded))
    turn[:, : directions.shape[1]] = directions[:, ::-1]
    return turn


def _order(vectors: Floats, turn: Floats) -> npt.NDArray[np.int32]:
    """Return the items of each block (blocks, WIDTH)."""
    n = len(vectors)
    columns = np.ascontiguousarray((vectors @ turn).T)
    found = np.full(-(-n // WIDTH) * WIDTH, -1, np.int32)
    order = found[:n]
    order[:] = np.arange(n)
    parts = [(0, n)]
    while parts:
        begin, end = parts.pop()
        members = order[begin:end]
        if len(members) <= WIDTH:
            continue
        spread = columns[:, members[:: max(1, len(members) // SPREAD_SAMPLE)]].std(axis=1)
        half = WIDTH * (-(-len(members) // WIDTH) // 2)
        order[begin:end] = members[np.argpartition(columns[spread.argmax()][members], half)]
        parts += [(begin, begin + half), (begin + half, end)]
    return found.reshape(-1, WIDTH)


@jit
def _encode(blocks: Any, first: Any, turned: Any) -> None:
    """Fill the blocks from the number `first`, of which these are the turned vectors (some, WIDTH, P)."""
    stages = len(blocks.ends)
    for number in range(len(turned)):
        block, x, members = first + number, turned[number], 0
        while members < WIDTH and blocks.order[block, members] >= 0:
            members += 1
        codes, centres, steps = blocks.codes[block], blocks.centres[block], blocks.steps[block]
        for d in range(x.shape[1]):
            low = high = x[0, d]
            for i in range(members):
                low, high = min(low, x[i, d]), max(high, x[i, d])
            centres[d], steps[d] = (low + high) / 2, max((high - low) / LEVELS, LEAST)
        left, most = np.zeros((stages, WIDTH)), np.zeros(stages)
        radius, norms, errors = 0.0, 0.0, 0.0
        for i in range(members):
            norm, error, read, stage = 0.0, 0.0, 0.0, 0
            for d in range(x.shape[1]):
                norm += x[i, d] * x[i, d]
                step, difference = np.float64(steps[d]), x[i, d] - np.float64(centres[d])
                code = min(max(np.floor(difference / step + LEVELS / 2 + 0.5), 0.0), np.float64(LEVELS))
                missed = difference - (code - LEVELS / 2) * step
                error += missed * missed
                codes[d // 2, i] |= np.uint8(np.int64(code) << (4 * (d % 2)))
                if d == blocks.ends[stage]:
                    stage += 1
                if stage == 0:
                    read += difference * difference
                for earlier in range(stage):
                    left[earlier, i] += difference * difference
            radius, norms, errors = max(radius, read), max(norms, norm), max(errors, error)
            for stage in range(stages):
                most[stage] = max(most[stage], left[stage, i])
        blocks.radii[block, 0], blocks.radii[block, 1] = np.sqrt(radius) * UP, np.sqrt(most[0]) * UP
        blocks.norms[block], blocks.errors[block] = np.sqrt(norms) * UP, np.sqrt(errors) * UP
        for stage in range(stages):
            scale = np.float32(max(np.sqrt(most[stage]) * (UP * UP / TAIL), LEAST))
            blocks.tail_scales[block, stage] = scale
            for i in range(members):
                blocks.tails[block, stage, i] = np.uint8(np.ceil(np.sqrt(left[stage, i]) * UP / np.float64(scale)))
