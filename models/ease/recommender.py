"""EASE as a recommender: the scores of a request are the sum of the weights of its items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.cooccurrence import catalogue_counts, item_matrix
from models.ease.closed_form import item_weights
from models.ease.memory import refuse_too_many
from models.ease.spec import EASESettings
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model

__all__ = ["EASE"]


class EASE(Recommender):
    """A linear model of items. It knows no users: a request is answered from its events, in whatever order they came.

    If train events have weights, an item counts as much as the greatest weight among the user's events of it. A request without
    known events gets the items with the most train events.
    """

    name = "ease"
    sequential = False

    def __init__(self, settings: EASESettings) -> None:
        self._settings = settings
        self._know(np.empty(0, np.int64))
        self._weights, self._counts = np.empty((0, 0), np.float32), np.empty(0)

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
        refuse_too_many(len(catalogue), self._settings.memory_gib)
        self._know(catalogue)
        self._counts = catalogue_counts(train, self._items)
        self._weights = item_weights(item_matrix(train, self._items, train.relative_weights), self._settings.regularisation)
        return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

    def scores(self, requests: Requests) -> torch.Tensor:
        history = item_matrix(requests, self._items)
        scores = np.asarray(history @ self._weights, np.float32)
        scores[np.diff(history.indptr) == 0] = np.log1p(self._counts)
        return torch.from_numpy(scores)

    def save(self, folder: Path) -> None:
        write_model(folder, self, {"weights": torch.from_numpy(self._weights)}, {"train_events": self._counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> EASE:
        saved = read_model(folder)
        model = cls(EASESettings(**saved.settings))
        model._know(saved.catalogue)
        model._weights = saved.tensors["weights"].numpy()
        model._counts = saved.items["train_events"].to_numpy(np.float64)
        return model

    def _know(self, catalogue: IntArray) -> None:
        self.catalogue, self._items = catalogue, Vocabulary(catalogue)
