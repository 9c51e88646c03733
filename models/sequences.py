"""Windows of users' events as token streams, for models that read a whole sequence in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.recommender import IntArray, Requests, Sequences

__all__ = ["Histories", "Vocabulary", "Windows", "histories", "training_windows"]

DENSE_IDS = 1 << 26  # largest lookup table; a table is faster than searching for each id


class Vocabulary:
    """Maps raw ids, which must be ascending, to the indices 1..n. Index 0 means that an id is unknown."""

    def __init__(self, ids: IntArray) -> None:
        self.ids = ids
        self._table: IntArray | None = None
        if len(ids) and ids[0] >= 0 and ids[-1] < min(DENSE_IDS, 64 * len(ids) + 1024):
            self._table = np.zeros(int(ids[-1]) + 2, dtype=np.int64)
            self._table[ids] = np.arange(1, len(ids) + 1)

    def __len__(self) -> int:
        return len(self.ids)

    def indices(self, raw: IntArray) -> IntArray:
        """Return the index of each raw id, or 0 if it is unknown."""
        if self._table is not None:  # the last entry is 0, for all ids outside the table
            return self._table[np.where((raw >= 0) & (raw < len(self._table)), raw, -1)]
        place = np.minimum(np.searchsorted(self.ids, raw), max(len(self.ids) - 1, 0))
        known = self.ids[place] == raw if len(self.ids) else np.zeros(len(raw), dtype=bool)
        return np.where(known, place + 1, 0).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Windows:
    """Spans [begin, end) of an event array. Each position in a span predicts the event after it."""

    begins: IntArray  # (W,)
    ends: IntArray  # (W,) the event at `end` is the last target

    @property
    def lengths(self) -> IntArray:
        return self.ends - self.begins


def training_windows(train: Sequences, max_length: int, rng: np.random.Generator | None = None) -> Windows:
    """Return windows that predict every event except each user's first exactly once.

    A user with more than `max_length` targets is cut into several windows. `rng` moves the cuts, so that over the epochs no
    event stays at the start of a window, where there is little history.
    """
    first, last = train.offsets[:-1], train.offsets[1:] - 1
    some = last > first
    first, last = first[some], last[some]
    targets = last - first
    # The latest `tail` targets form a separate window, which moves the cuts before them.
    tail = np.zeros_like(targets) if rng is None else np.where(targets > max_length, rng.integers(0, max_length, len(targets)), 0)
    whole = -(-(targets - tail) // max_length)
    count = whole + (tail > 0)
    user = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)  # from the user's end
    full = nth - (tail[user] > 0)
    ends = np.where(full < 0, last[user], last[user] - tail[user] - full * max_length)
    begins = np.where(full < 0, last[user] - tail[user], np.maximum(ends - max_length, first[user]))
    return Windows(begins.astype(np.int64), ends.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Histories:
    """The last events of each request as one stream, ready for one pass."""

    items: torch.Tensor  # (T,) vocabulary indices
    intervals: torch.Tensor  # (T,) float32 seconds to the next event, or to the request after the last event
    offsets: torch.Tensor  # (R + 1,) request r is tokens offsets[r]:offsets[r + 1]; empty if no event is known
    until: torch.Tensor  # (T,) int64 UTC seconds of the next event, or of the request

    def to(self, device: torch.device) -> Histories:
        """Put the tokens on a device. The offsets stay on the host."""
        return Histories(self.items.to(device), self.intervals.to(device), self.offsets, self.until.to(device))


def histories(requests: Requests, vocabulary: Vocabulary, max_length: int) -> Histories:
    """Return the last `max_length` events of each request, without events that are not in the vocabulary."""
    indices = vocabulary.indices(requests.item_ids)
    rows = requests.row_of_event
    known = indices > 0
    if not known.all():
        indices, rows, times = indices[known], rows[known], requests.timestamps[known]
    else:
        times = requests.timestamps
    lengths = np.bincount(rows, minlength=len(requests))
    ends = np.cumsum(lengths)
    from_end = ends[rows] - np.arange(len(rows))
    kept = from_end <= max_length
    items, times, from_end, rows = indices[kept], times[kept], from_end[kept], rows[kept]
    following = np.append(times[1:], 0)[: len(times)]
    following[from_end == 1] = requests.request_times[rows[from_end == 1]]
    # Subtract in int64 first: as float32, today's UTC seconds are 128 s apart.
    intervals = (following - times).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, max_length))])
    return Histories(torch.from_numpy(items), torch.from_numpy(intervals), torch.from_numpy(offsets), torch.from_numpy(following))
