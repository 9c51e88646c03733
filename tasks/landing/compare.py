"""Compare new events with those of a dataset: which new events win, and which rows they supersede."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.datasets import EventDigest, Layout, PartFiles, event_chunks, removals_of

__all__ = ["Comparison", "compare"]

COMPARED = ["user_id", "movie_id", "rating", "timestamp"]
LARGEST_TABLE = 1 << 24  # smaller ids are looked up in a table
SIEVE_BITS = 22
SIEVE = 1 << SIEVE_BITS
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result for N new events."""

    wins: npt.NDArray[np.bool_]  # (N,) the event wins
    corrects: npt.NDArray[np.bool_]  # (N,) the event wins and replaces an event of the dataset
    removals: pd.DataFrame  # part, position, user_id, movie_id of the superseded rows
    removed: EventDigest
    first: int | None  # UTC seconds of the oldest event of the dataset that stays; None if none does


def compare(files: PartFiles, layout: Layout, new: pd.DataFrame) -> Comparison:
    """Compare new events with those of a dataset.

    The newest event of a user and movie wins. At the same second, the one with the highest rating wins, and of equal events the
    one that is already in the dataset. `tasks.ingest.merge.settle` has the same rules for files.

    Args:
        new: Events with COMPARED, one row for each user and movie.
    """
    keys = _Keys(new)
    times, ratings = new["timestamp"].to_numpy(np.int64), new["rating"].to_numpy(np.float64)
    wins, corrects = np.ones(len(new), dtype=bool), np.zeros(len(new), dtype=bool)
    removals: list[pd.DataFrame] = []
    removed, first = EventDigest(), None
    superseded = removals_of(files, layout)
    for number in range(len(layout.parts)):
        for start, chunk, kept in event_chunks(files, layout, number, superseded[number], COMPARED):
            places, rows = keys.matches(chunk["user_id"], chunk["movie_id"], kept)
            time, rating = chunk["timestamp"][places], chunk["rating"][places]
            newer = (times[rows] > time) | ((times[rows] == time) & (ratings[rows] > rating))
            wins[rows[~newer]] = False
            corrects[rows[newer]] = True
            gone = places[newer]
            kept[gone] = False
            if kept.any():
                oldest = int(chunk["timestamp"][kept].min())
                first = oldest if first is None else min(first, oldest)
            if len(gone):
                lost = {name: column[gone] for name, column in chunk.items()}
                removed = removed + EventDigest.of(lost)
                where = {"part": np.full(len(gone), number, dtype=np.int64), "position": start + gone}
                removals.append(pd.DataFrame({**where, "user_id": lost["user_id"], "movie_id": lost["movie_id"]}))
    joined = pd.concat(removals, ignore_index=True) if removals else pd.DataFrame()
    return Comparison(wins, corrects, joined, removed, first)


class _Keys:
    """The users and movies of the new events, indexed to find them among many others."""

    def __init__(self, new: pd.DataFrame) -> None:
        self._users, users = _Places.of(new["user_id"].to_numpy(np.int64))
        self._movies, movies = _Places.of(new["movie_id"].to_numpy(np.int64))
        keys = users * self._movies.count + movies
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._sieve = np.zeros(SIEVE, dtype=bool)  # lets a few other keys through, and costs a twentieth of a search
        self._sieve[_slots(keys)] = True

    def matches(self, users: Ids, movies: Ids, kept: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the `kept` rows of a chunk with the user and movie of a new event, and the rows of those new events."""
        user, movie = self._users.find(users), self._movies.find(movies)
        keys = user * self._movies.count + movie
        places = np.flatnonzero((user >= 0) & (movie >= 0) & kept & self._sieve[_slots(keys)])
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
