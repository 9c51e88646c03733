"""Finds the best of many scores, exactly and without sorting them, and measures their spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.compiled import jit

__all__ = ["best", "spread"]

FEW = 512  # up to this count, a sorted list of the best so far is faster than a partition of all scores
BLOCK = 256  # scores that are skipped together if none of them is good enough


def best(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return the indices (<= count,) of the greatest finite scores (n,), best first. Ties go to the lower index."""
    if count <= 0 or not len(scores):
        return np.empty(0, np.int64)
    if count <= FEW:
        items = np.empty(count, np.int64)
        return items[: _best(scores, items, np.empty(count, np.float32))]
    candidates = np.flatnonzero(np.isfinite(scores))
    found = scores[candidates]
    if len(found) > count:
        least = np.partition(found, len(found) - count)[len(found) - count]
        above = np.flatnonzero(found > least)
        equal = np.flatnonzero(found == least)[: count - len(above)]
        places = np.sort(np.concatenate([above, equal]))
        candidates, found = candidates[places], found[places]
    return candidates[np.argsort(-found, kind="stable")]


@jit
def _best(scores: Any, items: Any, values: Any) -> Any:
    """Fill `items` and `values` (count,) with the best, and return how many there are."""
    count, found, least = len(items), 0, np.float32(-np.inf)
    for begin in range(0, len(scores), BLOCK):
        end = min(begin + BLOCK, len(scores))
        better = 0
        for i in range(begin, end):
            better += scores[i] > least
        if better == 0:
            continue
        for i in range(begin, end):
            value = scores[i]
            if value > least and value < np.inf:
                place = min(found, count - 1)
                while place > 0 and values[place - 1] < value:
                    values[place], items[place] = values[place - 1], items[place - 1]
                    place -= 1
                values[place], items[place] = value, i
                found = min(found + 1, count)
                if found == count:
                    least = values[count - 1]
    return found


def spread(scores: npt.NDArray[np.float32]) -> float:
    """Return the standard deviation of the finite scores, or 0 if there are none. Several times as fast as numpy's own."""
    if not len(scores):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        centred = scores - scores.mean()
        found = float(np.sqrt(np.dot(centred, centred) / np.float32(len(scores))))
    if np.isfinite(found):
        return found
    finite = scores[np.isfinite(scores)]
    return float(np.std(finite, dtype=np.float64)) if len(finite) else 0.0
