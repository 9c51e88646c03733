"""Which windows train together in a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.recommender import IntArray

__all__ = ["BatchPlan", "plan_batches"]

LOOK_AHEAD = 64  # windows among which a batch looks for one that fits into its rest


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The windows of each step in an epoch."""

    order: IntArray  # (W,) windows in the order of training
    bounds: IntArray  # (steps + 1,) step s takes order[bounds[s]:bounds[s + 1]]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[IntArray]:
        for begin, end in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            yield self.order[begin:end]


def plan_batches(lengths: IntArray, tokens: int, most_windows: int, rng: np.random.Generator, *, full: bool = True) -> BatchPlan:
    """Shuffle the windows and cut them into batches of at most `tokens` tokens and `most_windows` windows.

    Args:
        lengths: The length (W,) of each window.
        tokens: Most tokens of a batch.
        most_windows: Most windows of a batch.
        rng: Draws the order.
        full: Whether a batch is filled up with the next windows that fit. Otherwise it leaves room for one of the longest length.

    Raises:
        ValueError: if one window does not fit.
    """
    longest = int(lengths.max(initial=1))
    if longest > tokens:
        raise ValueError(f"a window of {longest} events does not fit into a batch of {tokens}")
    order = rng.permutation(len(lengths)).astype(np.int64)
    if full:
        return _shuffled(_filled(order, lengths, tokens, most_windows), rng)
    cost = np.maximum(lengths[order], -(-tokens // most_windows))
    room = max(tokens - int(cost.max(initial=1)), 1) if int(cost.max(initial=1)) < tokens else 1
    batch = (np.cumsum(cost) - cost) // room
    starts = np.flatnonzero(np.append(True, batch[1:] != batch[:-1])) if len(batch) else np.empty(0, np.int64)
    return BatchPlan(order, np.append(starts, len(order)).astype(np.int64))


def _filled(order: IntArray, lengths: IntArray, tokens: int, most_windows: int) -> BatchPlan:
    """Cut `order` into full batches.

    A batch takes windows in their drawn order as long as they fit, and then those of the next few that fit into its rest.
    """
    bounds, start = [0], 0
    while start < len(order):
        used = np.cumsum(lengths[order[start : start + most_windows]])
        end = start + int(np.searchsorted(used, tokens, side="right"))
        room = tokens - int(used[end - start - 1])
        most = min(start + most_windows, len(order))
        while end < most and room > 0:
            ahead = lengths[order[end : end + LOOK_AHEAD]] <= room
            place = end + int(ahead.argmax())
            if not ahead[place - end]:
                break
            taken = order[place]
            room -= int(lengths[taken])
            order[end + 1 : place + 1] = order[end:place].copy()
            order[end] = taken
            end += 1
        bounds.append(end)
        start = end
    return BatchPlan(order, np.array(bounds, np.int64))


def _shuffled(plan: BatchPlan, rng: np.random.Generator) -> BatchPlan:
    """Draw the order of the batches: short windows fill the first ones, and would be learnt before long windows in every epoch."""
    sizes, drawn = np.diff(plan.bounds), rng.permutation(len(plan))
    batches = list(plan)
    order = np.concatenate([np.empty(0, np.int64), *(batches[step] for step in drawn)])
    return BatchPlan(order, np.concatenate([[0], np.cumsum(sizes[drawn])]).astype(np.int64))
