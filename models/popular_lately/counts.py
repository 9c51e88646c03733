"""Events of items up to any moment, without adding them up from the start each time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.recommender import IntArray

__all__ = ["EventCounts"]

Floats = npt.NDArray[np.float64]
CHECKPOINTS = 64  # sums that are kept; a question then adds up at most one in 64 of the events
DAY_S = 86_400
LOWEST = -2000.0  # below the logarithm of any number


@dataclass(frozen=True, eq=False)
class EventCounts:
    """Events in the order of their times."""

    times: IntArray  # (N,) UTC seconds, ascending
    items: IntArray  # (N,) indices from 0
    weights: npt.NDArray[np.float32] | None  # (N,) > 0; None: all count alike
    size: int  # number of items
    _kept: dict[float, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, times: IntArray, items: IntArray, weights: npt.NDArray[np.float32] | None, size: int) -> EventCounts:
        """Sort events by time. Those of one second keep their order."""
        order = np.argsort(times, kind="stable")
        return cls(times[order], items[order], None if weights is None else weights[order], size)

    def before(self, moments: IntArray) -> IntArray:
        """Return how many events (M,) are not later than each moment."""
        return np.searchsorted(self.times, moments, side="right").astype(np.int64)

    def halved(self, known: int, half_life_days: float) -> Floats:
        """Return the logarithm (n_items,), base 2, of the events of each item, of which each counts half after a half-life.

        Ages are counted back from the newest of the events, so that no answer depends on how long ago all of them were. Items without
        an event get the lowest value.

        Args:
            known: The number of events that count: the first ones.
            half_life_days: In days.
        """
        half_life = half_life_days * DAY_S
        if not known:
            return np.full(self.size, LOWEST)
        kept = self._checkpoints(half_life)
        block = (known - 1) // self._block
        now = self.times[known - 1]
        sums = self._sums(block * self._block, known, now, half_life)
        if block:
            sums += kept[block] * np.exp2((self.times[block * self._block - 1] - now) / half_life)
        return np.log2(sums, out=np.full(self.size, LOWEST), where=sums > 0)

    def within(self, known: int, window_days: float) -> Floats:
        """Return the number (n_items,) of events in the window that ends at the newest of the first `known` events.

        Unless events have weights, a fraction is added for earlier ones: of two items with as many in the window, the one with more
        before it is first.
        """
        if not known:
            return np.zeros(self.size)
        first = int(np.searchsorted(self.times, self.times[known - 1] - window_days * DAY_S, side="right"))
        ever = self._until(known)
        found = ever - self._until(first)
        return found if self.weights is not None else found + ever / (ever.max() + 1) / 2

    @property
    def _block(self) -> int:
        return max(1, -(-len(self.times) // CHECKPOINTS))

    def _until(self, known: int) -> Floats:
        block = known // self._block
        sums: Floats = self._checkpoints(np.inf)[block] + self._sums(block * self._block, known, 0, np.inf)
        return sums

    def _checkpoints(self, half_life: float) -> Floats:
        """Return the sums (blocks + 1, n_items) before each block, as of the event before it."""
        if half_life not in self._kept:
            sums = np.zeros((len(self.times) // self._block + 2, self.size))
            for block in range(1, len(sums)):
                begin, end = (block - 1) * self._block, min(block * self._block, len(self.times))
                if end <= begin:
                    break
                now = self.times[end - 1]
                sums[block] = self._sums(begin, end, now, half_life)
                if begin:
                    sums[block] += sums[block - 1] * np.exp2((self.times[begin - 1] - now) / half_life)
            self._kept[half_life] = sums
        return self._kept[half_life]

    def _sums(self, begin: int, end: int, now: int | np.int64, half_life: float) -> Floats:
        """Return the sums (n_items,) of the events begin:end, as of `now`."""
        values = None if self.weights is None else self.weights[begin:end].astype(np.float64)
        if np.isfinite(half_life):
            decay = np.exp2((self.times[begin:end] - now) / half_life)
            values = decay if values is None else decay * values
        return np.bincount(self.items[begin:end], values, minlength=self.size).astype(np.float64)
