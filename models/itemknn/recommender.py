"""ItemKNN as a recommender: the scores of a request are the sum of the similarities to its items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from models.cooccurrence import catalogue_counts, item_matrix
from models.itemknn.similarity import nearest_items, recency
from models.itemknn.spec import ItemKNNSettings
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model

__all__ = ["ItemKNN"]

BELOW_NEIGHBOURS = 1e-32  # a score by popularity is lower than any similarity


class ItemKNN(Recommender):
    """Neighbours of items. It knows no users: a request is answered from its events, of which recent ones may count more.

    Other items come after the neighbours of the history, by their number of train events.
    """

    name = "itemknn"
    sequential = False

    def __init__(self, settings: ItemKNNSettings) -> None:
        self._settings = settings
        self._know(np.empty(0, np.int64))
        self._similar, self._counts = csr_array((0, 0), dtype=np.float32), np.empty(0)

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
        started, settings = time.perf_counter(), self._settings
        self._know(catalogue)
        self._counts = catalogue_counts(train, self._items)
        events = item_matrix(train, self._items, train.relative_weights)
        self._similar = nearest_items(events, min(settings.neighbours, max(len(catalogue) - 1, 1)), settings.shrink)
        return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

    def scores(self, requests: Requests) -> torch.Tensor:
        settings = self._settings
        counted = recency(requests, self._items, settings.half_life_events, settings.half_life_s)
        scores = (item_matrix(requests, self._items, counted) @ self._similar).toarray().astype(np.float32)
        popular = (self._counts / max(self._counts.sum(), 1) * BELOW_NEIGHBOURS).astype(np.float32)
        return torch.from_numpy(np.where(scores > 0, scores, popular))

    def save(self, folder: Path) -> None:
        similar = self._similar
        arrays = {"values": similar.data, "columns": similar.indices.astype(np.int64), "rows": similar.indptr.astype(np.int64)}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        write_model(folder, self, tensors, {"train_events": self._counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> ItemKNN:
        saved = read_model(folder)
        model, size = cls(ItemKNNSettings(**saved.settings)), len(saved.catalogue)
        model._know(saved.catalogue)
        content = tuple(saved.tensors[name].numpy() for name in ("values", "columns", "rows"))
        model._similar = csr_array(content, shape=(size, size))
        model._counts = saved.items["train_events"].to_numpy(np.float64)
        return model

    def _know(self, catalogue: IntArray) -> None:
        self.catalogue, self._items = catalogue, Vocabulary(catalogue)
