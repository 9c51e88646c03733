"""Training batches of windows as token streams, built on the network's device.

The events are copied to the device once, as arrays of items and times. An epoch only sends its plan: two numbers per window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from models.recommender import IntArray, Sequences
from models.sequences import Vocabulary, Windows, training_windows
from models.training import Replicas
from models.windows.packing import BatchPlan, plan_batches
from models.windows.segments import Segments

__all__ = ["Batch", "Batching", "TrainingBatches"]


@dataclass(frozen=True)
class Batching:
    """How events are cut into windows, and windows put into steps."""

    max_length: int
    """Most events of a window."""
    tokens: int
    """Most tokens of a step, over all replicas."""
    seed: int
    full: bool = True
    """Whether a step is filled up to `tokens`. Otherwise it leaves room for one window of the longest length."""
    shuffle_ties: bool = False
    """Whether each epoch draws a new order for events in the same second."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The windows of one step. A target of -1 means that there is no target: the token only fills the stream."""

    items: torch.Tensor  # (T,) int64
    intervals: torch.Tensor  # (T,) float32 seconds to the next event
    targets: torch.Tensor  # (T,) int64, 0-based columns of the catalogue
    segments: Segments
    total: torch.Tensor  # scalar: number of targets in this step over all replicas
    who: torch.Tensor | None = None  # (W, traits) int64 codes of each window's user
    weights: torch.Tensor | None = None  # (T,) float32 relative weight of each target; None: all count alike
    until: torch.Tensor | None = None  # (T,) int64 UTC seconds of the next event


class TrainingBatches:
    """The windows of every epoch."""

    def __init__(
        self,
        train: Sequences,
        vocabulary: Vocabulary,
        batching: Batching,
        *,
        device: torch.device,
        who: IntArray | None = None,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        """`who` (users of `train`, traits) has the users' codes, or is None if the network does not use them."""
        max_length, tokens = batching.max_length, batching.tokens
        self._train, self._batching, self._replicas = train, batching, replicas
        # One extra event is a placeholder, which filling tokens read.
        self._items = torch.from_numpy(np.append(vocabulary.indices(train.item_ids), 0)).to(device)
        self._times = torch.from_numpy(np.append(train.timestamps, 0)).to(device)
        relative = train.relative_weights
        self._weights = None if relative is None else torch.from_numpy(np.append(relative, np.float32(0))).to(device)
        self._who: tuple[torch.Tensor, torch.Tensor] | None = None
        if who is not None:  # the placeholder event belongs to an unknown user
            rows = torch.from_numpy(np.append(train.row_of_event, len(who))).to(device)
            self._who = rows, torch.from_numpy(np.append(who, np.zeros((1, who.shape[1]), np.int64), axis=0)).to(device)
        self._ties: torch.Tensor | None = None
        if batching.shuffle_ties:
            first_of_second = np.ones(len(train.timestamps), dtype=bool)
            first_of_second[1:] = (np.diff(train.timestamps) != 0) | (np.diff(train.row_of_event) != 0)
            self._ties = torch.from_numpy(np.cumsum(first_of_second)).to(device)
            self._given = self._items[:-1].clone()
            self._given_weights = None if self._weights is None else self._weights[:-1].clone()
        lengths = training_windows(train, max_length).lengths
        mean = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
        self._most_windows = int(np.ceil(4 * tokens / mean))
        # A replica takes every count-th window, so its share of a batch may exceed the mean by one window.
        self.capacity = tokens if replicas.count == 1 else tokens // replicas.count + 2 * max_length
        self._slots = self._most_windows // replicas.count + 2
        self._plan: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        self._latest: tuple[int, Windows, BatchPlan] | None = None

    def steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        return len(self._drawn(epoch)[1])

    def eager(self, epoch: int) -> Iterator[Batch]:
        """Yield the epoch's batches, each as long as its windows."""
        device = self._items.device
        self._reorder(epoch)
        for begins, offsets, total in self._shares(epoch):
            segments = Segments.of(torch.from_numpy(offsets).to(device), int(offsets[-1]))
            yield self._batch(torch.from_numpy(begins).to(device), segments, torch.tensor(float(total), device=device))

    def begin(self, epoch: int) -> int:
        """Write the epoch's plan to the device, for `fixed`, and return the number of steps."""
        shares = list(self._shares(epoch))
        if not shares:
            return 0
        self._reorder(epoch)
        slots, filler = self._slots, len(self._train.item_ids)
        begins = np.full((len(shares), slots), filler, dtype=np.int64)
        offsets = np.full((len(shares), slots + 1), self.capacity, dtype=np.int32)
        totals = np.array([total for *_, total in shares], dtype=np.float32)
        for step, (window_begins, window_offsets, _) in enumerate(shares):
            used, windows_used = int(window_offsets[-1]), len(window_begins)
            begins[step, :windows_used] = window_begins
            offsets[step, : windows_used + 1] = window_offsets
            # Spread the remaining tokens over the empty slots: one long window would delay the others.
            piece = -(-(self.capacity - used) // (slots - windows_used))
            fill = used + piece * np.arange(1, slots - windows_used + 1)
            offsets[step, windows_used + 1 :] = np.minimum(fill, self.capacity)
        fresh = [torch.from_numpy(array).to(self._items.device) for array in (begins, offsets, totals)]
        if self._plan is None:
            room = int(1.2 * len(shares)) + 8  # the captured graph always reads these addresses
            self._plan = tuple(part.new_zeros(room, *part.shape[1:]) for part in fresh)  # type: ignore[assignment]
        assert self._plan is not None
        for place, part in zip(self._plan, fresh, strict=True):
            place[: len(part)] = part
        return len(shares)

    def fixed(self, step: torch.Tensor) -> Batch:
        """Return batch `step` (int64 scalar on the device) of the current epoch. It always has `capacity` tokens."""
        assert self._plan is not None
        begins, offsets, totals = (part.index_select(0, step.view(1))[0] for part in self._plan)
        return self._batch(begins, Segments.of(offsets, self.capacity), totals)

    def _batch(self, begins: torch.Tensor, segments: Segments, total: torch.Tensor) -> Batch:
        nothing = len(self._items) - 1
        event = begins[segments.windows] + segments.positions
        real = begins[segments.windows] < nothing
        event = torch.where(real, event, nothing)
        following = torch.where(real, event + 1, nothing)
        # Subtract in int64 first: as float32, today's UTC seconds are 128 s apart.
        until = self._times[following]
        intervals = (until - self._times[event]).float()
        who = None
        if self._who is not None:
            rows, codes = self._who
            who = codes[rows[begins]]
        weights = None if self._weights is None else self._weights[following]
        return Batch(self._items[event], intervals, self._items[following] - 1, segments, total, who, weights, until)

    def _reorder(self, epoch: int) -> None:
        """Draw a new order for each user's events within the same second."""
        if self._ties is None:
            return
        generator = torch.Generator(self._items.device).manual_seed(
            int(np.random.default_rng([self._batching.seed, epoch, 1]).integers(1 << 62))
        )
        order = torch.rand(len(self._ties), device=self._items.device, generator=generator).argsort()
        order = order[self._ties[order].argsort(stable=True)]
        self._items[:-1] = self._given[order]
        if self._weights is not None and self._given_weights is not None:
            self._weights[:-1] = self._given_weights[order]

    def _shares(self, epoch: int) -> Iterator[tuple[IntArray, IntArray, int]]:
        """Yield this replica's windows of each step, and the step's number of targets over all replicas.

        Windows are given by their first events and their offsets.
        """
        windows, plan = self._drawn(epoch)
        lengths = windows.lengths
        for rows in plan:
            # Deal the windows in turn, longest first: replicas get similar loads, and long windows start early on the device.
            rows = rows[np.argsort(-lengths[rows], kind="stable")]
            own = rows[self._replicas.rank :: self._replicas.count]
            yield windows.begins[own], np.concatenate([[0], np.cumsum(lengths[own])]), int(lengths[rows].sum())

    def _drawn(self, epoch: int) -> tuple[Windows, BatchPlan]:
        """Return the windows and batches of an epoch."""
        if self._latest is None or self._latest[0] != epoch:
            batching, rng = self._batching, np.random.default_rng([self._batching.seed, epoch])
            windows = training_windows(self._train, batching.max_length, rng)
            plan = plan_batches(windows.lengths, batching.tokens, self._most_windows, rng, full=batching.full)
            self._latest = epoch, windows, plan
        return self._latest[1:]
