"""The scores of one request, while rules and filters close items: those of all items, or those of an indexed catalogue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.pruning import ItemMask, UserScores
from models.top_k import best
from serving.reranking.masks import Mask, Shape

__all__ = ["Scan", "Search"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


class Scan:
    """The scores of all items."""

    def __init__(self, scores: FloatArray, new: IntArray, most_new: int | None) -> None:
        """Take scores (n,), which are overwritten, and how many of the new items may be shown, if that is bounded."""
        self._scores, self._new, self._most_new = scores, new, most_new

    def of(self, item: int) -> float:
        return float(self._scores[item])

    def close(self, shape: Shape, allowed: Mask | None, closed: IntArray) -> None:
        """Close the items that rules exclude, that a request does not allow, and those in `closed`."""
        if shape.closed is not None:
            np.minimum(self._scores, shape.closed, out=self._scores)
        if allowed is not None:
            np.putmask(self._scores, ~allowed, -np.inf)
        self._scores[closed] = -np.inf
        if self._most_new is not None:
            beyond = np.ones(len(self._new), bool)
            beyond[best(self._scores[self._new], self._most_new)] = False
            self._scores[self._new[beyond]] = -np.inf

    def best(self, count: int) -> tuple[IntArray, FloatArray]:
        items = best(self._scores, count)
        return items, self._scores[items]


class Search:
    """The scores of a user in an indexed catalogue, of which only some are computed."""

    def __init__(self, scores: UserScores) -> None:
        self._scores, self._mask = scores, ItemMask()

    def of(self, item: int) -> float:
        return float(self._scores.of(np.array([item]))[0])

    def close(self, shape: Shape, allowed: Mask | None, closed: IntArray) -> None:
        """See `Scan`."""
        if shape.open is not None:
            allowed = shape.open if allowed is None else allowed & shape.open
        self._mask = ItemMask(allowed, closed)

    def best(self, count: int) -> tuple[IntArray, FloatArray]:
        return self._scores.best(count, self._mask)
