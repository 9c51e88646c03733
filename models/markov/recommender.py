"""The Markov chain as a recommender.

    P(next = j | last = i) = (transitions from i to j + smoothing * popularity of j) / (transitions from i + smoothing)

The popularity of an item is its share of the train events, after one event was added to each item.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from models.cooccurrence import catalogue_counts
from models.markov.spec import MarkovSettings
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model

__all__ = ["Markov"]


class Markov(Recommender):
    """Scores are probabilities of the next item, given the latest known one. Without a known one, they are popularity.

    If train events have weights, a transition counts as much as the event that it leads to.
    """

    name = "markov"
    sequential = True

    def __init__(self, settings: MarkovSettings) -> None:
        self._settings = settings
        self._know(np.empty(0, np.int64))
        self._transitions, self._counts = csr_array((0, 0), dtype=np.float32), np.empty(0)

    @property
    def max_length(self) -> int:
        return 1

    def settings(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json")

    def fit(
        self,
        train: Sequences,
        valid: Requests,
        catalogue: IntArray,
        *,
        seed: int,
        mask_seen: bool,
        checkpoint_dir: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitReport:
        started = time.perf_counter()
        self._know(catalogue)
        self._counts = catalogue_counts(train, self._items)
        items = self._items.indices(train.item_ids) - 1
        known = items >= 0
        items, rows = items[known], train.row_of_event[known]
        follows = rows[1:] == rows[:-1]
        weights = train.relative_weights
        values = np.ones(len(items), np.float32) if weights is None else weights[known]
        pairs = (items[:-1][follows], items[1:][follows])
        self._transitions = csr_array((values[1:][follows], pairs), shape=(len(catalogue), len(catalogue)))
        return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

    def scores(self, requests: Requests) -> torch.Tensor:
        smoothing = self._settings.smoothing
        last = self._last_known(requests)
        some = last >= 0
        popular = ((self._counts + 1) / (self._counts.sum() + len(self._counts))).astype(np.float32)
        scores = np.repeat(popular[None], len(requests), axis=0)
        chosen = self._transitions[last[some]]
        total = np.asarray(chosen.sum(axis=1), np.float32).reshape(-1, 1) + np.float32(smoothing)
        scores[some] = (chosen.toarray() + np.float32(smoothing) * popular) / total
        return torch.from_numpy(scores)

    def save(self, folder: Path) -> None:
        counted = self._transitions
        arrays = {"values": counted.data, "columns": counted.indices.astype(np.int64), "rows": counted.indptr.astype(np.int64)}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        write_model(folder, self, tensors, {"train_events": self._counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Markov:
        saved = read_model(folder)
        model, size = cls(MarkovSettings(**saved.settings)), len(saved.catalogue)
        model._know(saved.catalogue)
        content = tuple(saved.tensors[name].numpy() for name in ("values", "columns", "rows"))
        model._transitions = csr_array(content, shape=(size, size))
        model._counts = saved.items["train_events"].to_numpy(np.float64)
        return model

    def _know(self, catalogue: IntArray) -> None:
        self.catalogue, self._items = catalogue, Vocabulary(catalogue)

    def _last_known(self, requests: Requests) -> npt.NDArray[np.int64]:
        """Return the index (R,) from 0 of each request's latest known item, or -1."""
        items = self._items.indices(requests.item_ids) - 1
        known = np.flatnonzero(items >= 0)
        last = np.full(len(requests), -1, np.int64)
        last[requests.row_of_event[known]] = items[known]  # of several values for a row, numpy keeps the last
        return last
