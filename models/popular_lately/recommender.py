"""Popular lately as a recommender. A request sees the events of all users that are not later than its own time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.popular_lately.counts import EventCounts
from models.popular_lately.spec import PopularLatelySettings
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model

__all__ = ["PopularLately"]


class PopularLately(Recommender):
    """Scores each item by its recent train events, as of the request's time. The user's own events make no difference.

    A version keeps the time and the item of each train event, and no user: 12 bytes an event, or 16 with weights.
    """

    name = "popular_lately"
    sequential = False

    def __init__(self, settings: PopularLatelySettings) -> None:
        self._settings = settings
        self.catalogue: IntArray = np.empty(0, np.int64)
        nothing = np.empty(0, np.int64)
        self._counts = EventCounts(nothing, nothing, None, 0)

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
        self.catalogue = catalogue
        items = Vocabulary(catalogue).indices(train.item_ids) - 1
        known, weights = items >= 0, train.relative_weights
        given = None if weights is None else weights[known]
        self._counts = EventCounts.of(train.timestamps[known], items[known], given, len(catalogue))
        return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

    def scores(self, requests: Requests) -> torch.Tensor:
        settings, counts = self._settings, self._counts
        count = counts.halved if settings.counting == "half_life" else counts.within
        known, row = np.unique(counts.before(requests.request_times), return_inverse=True)
        found = [count(int(events), settings.days).astype(np.float32) for events in known]
        scores = np.stack(found) if found else np.empty((0, counts.size), np.float32)
        return torch.from_numpy(scores[row])

    def save(self, folder: Path) -> None:
        counts = self._counts
        tensors = {"times": torch.from_numpy(counts.times), "items": torch.from_numpy(counts.items.astype(np.int32))}
        if counts.weights is not None:
            tensors["weights"] = torch.from_numpy(counts.weights)
        write_model(folder, self, tensors)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> PopularLately:
        saved = read_model(folder)
        model, tensors = cls(PopularLatelySettings(**saved.settings)), saved.tensors
        model.catalogue = saved.catalogue
        weights = tensors["weights"].numpy() if "weights" in tensors else None
        model._counts = EventCounts(
            tensors["times"].numpy(), tensors["items"].numpy().astype(np.int64), weights, len(saved.catalogue)
        )
        return model
