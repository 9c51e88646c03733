"""Find the events of the same user and item, or of the same user, item and second, in a large table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.datasets import Arrays

__all__ = ["EventIndex"]

LARGEST_TABLE = 1 << 24  # smaller ids are looked up in a table
SIEVE_BITS = 22
SIEVE = 1 << SIEVE_BITS
Ids = npt.NDArray[np.int64]


class EventIndex:
    """The keys of the new events, indexed to find them among many others. No two new events have the same key."""

    def __init__(self, new: pd.DataFrame, names: Sequence[str] = (Columns.USER, Columns.ITEM)) -> None:
        """Index the events by the columns `names`: the user and the item, and maybe the time."""
        self._users, users = _Places.of(new[Columns.USER].to_numpy(np.int64))
        self._items, items = _Places.of(new[Columns.ITEM].to_numpy(np.int64))
        keys = users * self._items.count + items
        self._pairs = self._times = None
        if Columns.TIME in names:  # pairs are counted, because three counts multiplied may exceed 63 bits
            self._pairs, pairs = _Places.of(keys)
            self._times, times = _Places.of(new[Columns.TIME].to_numpy(np.int64))
            keys = pairs * self._times.count + times
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._sieve = np.zeros(SIEVE, dtype=bool)  # lets a few other keys through, and costs a twentieth of a search
        self._sieve[_slots(keys)] = True

    def matches(self, chunk: Arrays, kept: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the `kept` rows of a chunk with the key of a new event, and the rows of those new events."""
        user, item = self._users.find(chunk[Columns.USER]), self._items.find(chunk[Columns.ITEM])
        keys = user * self._items.count + item
        known = (user >= 0) & (item >= 0) & kept
        if self._pairs is not None and self._times is not None:
            pair, time = self._pairs.find(keys), self._times.find(chunk[Columns.TIME])
            known &= (pair >= 0) & (time >= 0)
            keys = pair * self._times.count + time
        places = np.flatnonzero(known & self._sieve[_slots(keys)])
        keys = keys[places]
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        same = self._keys[found] == keys
        return places[same], self._order[found[same]]


class _Places:
    """Positions of ids among distinct ids in ascending order."""

    def __init__(self, ids: Ids) -> None:
        self._ids, self.count = ids, len(ids)
        self._table: Ids | None = None
        if ids[-1] < LARGEST_TABLE:
            self._table = np.full(int(ids[-1]) + 2, -1, dtype=np.int64)  # the last entry is for all larger ids
            self._table[ids] = np.arange(len(ids))

    @classmethod
    def of(cls, ids: Ids) -> tuple[_Places, Ids]:
        """Build the positions of `ids`, and return them with the position of each id."""
        distinct, places = np.unique(ids, return_inverse=True)
        return cls(distinct), places.astype(np.int64)

    def find(self, ids: Ids) -> Ids:
        """Return the position of each id, or -1 for an unknown id."""
        if self._table is not None:
            return self._table.take(ids, mode="clip")
        found = np.minimum(np.searchsorted(self._ids, ids), self.count - 1)
        return np.where(self._ids[found] == ids, found, -1).astype(np.int64)


def _slots(keys: Ids) -> npt.NDArray[np.uint64]:
    """Hash each key to one of SIEVE slots by Fibonacci hashing (Knuth, TAOCP 3, 6.4)."""
    return (keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - SIEVE_BITS)
