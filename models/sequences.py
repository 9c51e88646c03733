"""Windows of a user's events, padded on the right, for models that read a whole sequence in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from models.recommender import IntArray, Requests, Sequences

__all__ = ["Histories", "Vocabulary", "Windows", "history_batch", "training_windows"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Raw ids, ascending, and their indices 1..n; 0 stands for an id that is not there."""

    ids: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def indices(self, raw: IntArray) -> IntArray:
        """Index of each raw id, 0 where it is unknown."""
        place = np.minimum(np.searchsorted(self.ids, raw), max(len(self.ids) - 1, 0))
        known = self.ids[place] == raw if len(self.ids) else np.zeros(len(raw), dtype=bool)
        return np.where(known, place + 1, 0).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Windows:
    """Spans [begin, end) of the event array; each predicts the event after each of its positions."""

    items: IntArray  # (N,) vocabulary indices of all events
    timestamps: IntArray  # (N,)
    begins: IntArray  # (W,)
    ends: IntArray  # (W,) the event at `end` is the last target

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """Windows of like length together (little padding), batches in random order.

        Yields items (B, L), intervals (B, L) float32 seconds, targets (B, L) with 0 where nothing is to be predicted.
        """
        lengths = self.ends - self.begins
        order = np.lexsort((rng.random(len(lengths)), lengths))
        starts = np.arange(0, len(order), batch_size)
        for start in rng.permutation(starts):
            yield self.batch(order[start : start + batch_size])

    def batch(self, rows: IntArray) -> tuple[torch.Tensor, ...]:
        begins, lengths = self.begins[rows], self.ends[rows] - self.begins[rows]
        steps = np.arange(lengths.max())
        inside = steps < lengths[:, None]
        index = np.where(inside, begins[:, None] + steps, begins[:, None])
        items = np.where(inside, self.items[index], 0)
        targets = np.where(inside, self.items[index + 1], 0)
        # int64 difference first: float32 seconds of today's times are 128 s apart.
        intervals = np.where(inside, self.timestamps[index + 1] - self.timestamps[index], 0)
        return torch.from_numpy(items), torch.from_numpy(intervals.astype(np.float32)), torch.from_numpy(targets)


def training_windows(
    train: Sequences, vocabulary: Vocabulary, max_length: int, rng: np.random.Generator | None = None
) -> Windows:
    """Windows that predict every event but each user's first exactly once.

    A user with more than max_length targets is cut into several windows; `rng` moves the cuts, so that over the epochs
    no event stays at a window's beginning, where little history is seen.
    """
    begins, ends = [], []
    for first, last in zip(train.offsets[:-1], train.offsets[1:] - 1, strict=True):
        if last - first < 1:
            continue
        cut = int(last)
        if rng is not None and last - first > max_length:
            cut = int(last - rng.integers(0, max_length))
            ends.append(int(last)) if cut < last else None
            begins.append(cut) if cut < last else None
        while cut > first:
            ends.append(cut)
            cut = max(cut - max_length, int(first))
            begins.append(cut)
    return Windows(
        items=vocabulary.indices(train.item_ids),
        timestamps=train.timestamps,
        begins=np.array(begins, dtype=np.int64),
        ends=np.array(ends, dtype=np.int64),
    )


@dataclass(frozen=True, eq=False)
class Histories:
    """The last events of each request, ready for one pass."""

    items: torch.Tensor  # (B, L) vocabulary indices, 0 pads on the right
    intervals: torch.Tensor  # (B, L) float32 seconds; the last one runs to the request
    last: torch.Tensor  # (B,) position of the last event, -1 for an empty history


def history_batch(requests: Requests, vocabulary: Vocabulary, max_length: int) -> Histories:
    """The last `max_length` events that the vocabulary knows, of each request."""
    indices = vocabulary.indices(requests.item_ids)
    known = indices > 0
    rows = requests.row_of_event[known]
    lengths = np.bincount(rows, minlength=len(requests))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items, times = indices[known], requests.timestamps[known]
    kept = np.minimum(lengths, max_length)
    steps = np.arange(max(int(kept.max(initial=0)), 1))
    inside = steps < kept[:, None]
    index = np.where(inside, (offsets[1:] - kept)[:, None] + steps, 0)
    if len(items) == 0:
        items, times = np.zeros(1, np.int64), np.zeros(1, np.int64)
    following = np.append(times, 0)[index + 1]
    following = np.where(steps == kept[:, None] - 1, requests.request_times[:, None], following)
    intervals = np.where(inside, following - times[index], 0)
    return Histories(
        items=torch.from_numpy(np.where(inside, items[index], 0)),
        intervals=torch.from_numpy(intervals.astype(np.float32)),
        last=torch.from_numpy(kept - 1),
    )
