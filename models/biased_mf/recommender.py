"""Biased matrix factorisation as a recommender.

rating = mean + bias of the user + bias of the item + user's vector * item's vector
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from models.biased_mf.least_squares import solved
from models.biased_mf.spec import BiasedMFSettings
from models.ratings import RatingOffsets
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model

__all__ = ["BiasedMF"]

Floats = npt.NDArray[np.float64]


class BiasedMF(Recommender):
    """Scores are predicted ratings. A user who was not in training has no vector: items are then ranked by their bias.

    Predicted ratings also use the ratings of a request's history, if it has them: the user's vector is solved again, as in training.
    """

    name = "biased_mf"
    sequential = False

    def __init__(self, settings: BiasedMFSettings) -> None:
        self._settings = settings
        self._know(np.empty(0, np.int64), np.empty(0, np.int64))
        self._range = np.zeros(3)  # mean, lowest and highest rating
        self._item_vectors = self._user_vectors = np.zeros((1, 1))  # row 0 is an unknown item or user; column 0 is the bias

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
        self._know(catalogue, train.user_ids)
        offsets = RatingOffsets.of(train, self._items, self.name)
        self._range = np.array([offsets.mean, offsets.lowest, offsets.highest])
        columns = self._items.indices(train.item_ids)
        known = columns > 0
        items, users = columns[known], train.row_of_event[known]
        assert train.ratings is not None
        beyond = train.ratings[known].astype(np.float64) - offsets.mean
        by_item = np.argsort(items, kind="stable")
        user_ends, item_ends = _ends(users, len(train)), _ends(items, len(catalogue) + 1)
        rng = np.random.default_rng(seed)
        of_users = np.concatenate([np.zeros((len(train), 1)), rng.normal(0, 0.1, (len(train), settings.width))], axis=1)
        of_items = np.zeros((len(catalogue) + 1, 1 + settings.width))
        for _ in range(settings.rounds):
            left = beyond - of_users[users, 0]
            of_items = solved(item_ends, users[by_item], left[by_item], of_users[:, 1:], settings.regularisation)
            of_users = solved(user_ends, items, beyond - of_items[items, 0], of_items[:, 1:], settings.regularisation)
        self._item_vectors = of_items
        self._user_vectors = np.concatenate([np.zeros((1, 1 + settings.width)), of_users])
        return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

    def scores(self, requests: Requests) -> torch.Tensor:
        users, items = self._user_vectors[self._users.indices(requests.user_ids)], self._item_vectors[1:]
        found = self._range[0] + users[:, :1] + items[:, 0] + users[:, 1:] @ items[:, 1:].T
        return torch.from_numpy(found.astype(np.float32))

    def predict_ratings(self, requests: Requests) -> torch.Tensor:
        users = self._user_vectors[self._users.indices(requests.user_ids)].copy()
        if requests.ratings is not None:
            columns = self._items.indices(requests.item_ids)
            known = columns > 0
            rows, columns = requests.row_of_event[known], columns[known]
            left = requests.ratings[known].astype(np.float64) - self._range[0] - self._item_vectors[columns, 0]
            ends = _ends(rows, len(requests))
            solved_now = solved(ends, columns, left, self._item_vectors[:, 1:], self._settings.regularisation)
            users = np.where((np.diff(ends) > 0)[:, None], solved_now, users)
        items = self._item_vectors[self._items.indices(requests.targets)]
        found = self._range[0] + users[:, 0] + items[:, 0] + (users[:, 1:] * items[:, 1:]).sum(axis=1)
        return torch.from_numpy(np.clip(found, self._range[1], self._range[2]).astype(np.float32))

    def save(self, folder: Path) -> None:
        tensors = {"users": self._user_vectors, "items": self._item_vectors, "range": self._range}
        write_model(folder, self, {name: torch.from_numpy(array) for name, array in tensors.items()})
        ids = self._users.ids
        pd.DataFrame({"user_id": ids, "index": np.arange(1, len(ids) + 1)}).to_parquet(folder / "users.parquet", index=False)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> BiasedMF:
        saved = read_model(folder)
        model = cls(BiasedMFSettings(**saved.settings))
        model._know(saved.catalogue, pd.read_parquet(folder / "users.parquet")["user_id"].to_numpy(np.int64))
        names = ("users", "items", "range")
        model._user_vectors, model._item_vectors, model._range = (saved.tensors[name].numpy() for name in names)
        return model

    def _know(self, catalogue: IntArray, users: IntArray) -> None:
        self.catalogue, self._items, self._users = catalogue, Vocabulary(catalogue), Vocabulary(users)


def _ends(rows: IntArray, count: int) -> IntArray:
    """Return where the ratings of each row begin and end (count + 1,), once they are sorted by row."""
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
