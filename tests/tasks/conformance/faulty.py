"""Kinds that are wrong in one way each, as plugins of the tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model


def write_vocabulary(folder: Path, items: IntArray) -> None:
    pd.DataFrame({"item_id": items}).to_parquet(folder / "vocabulary.parquet", index=False)


class FaultySettings(Settings):
    """Which fault the model has."""

    fault: str = ""
    """The fault. Empty: none."""
    seconds: float = Field(default=0.0, ge=0)
    """How long a training takes."""


class Faulty(Recommender):
    """Ranks by the number of train events, and by how often the history has an item."""

    name = "checked"
    sequential = False

    def __init__(self, settings: FaultySettings) -> None:
        self._settings, self.fault = settings, settings.fault
        self.catalogue: IntArray = np.empty(0, np.int64)

    @property
    def max_length(self) -> int | None:
        return 3 if self.fault == "reads more than max_length" else None

    def settings(self) -> dict[str, Any]:
        return {} if self.fault == "forgets its settings" else self._settings.model_dump(mode="json")

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
        time.sleep(self._settings.seconds)
        if self.fault == "raises in fit":
            raise RuntimeError("there is no\nluck today")
        if self.fault == "dies in fit":
            os._exit(9)
        self.catalogue = catalogue[::-1] if self.fault == "turns the catalogue" else catalogue
        counts = np.bincount(Vocabulary(catalogue).indices(train.item_ids), minlength=len(catalogue) + 1)[1:]
        noise = np.random.default_rng().random(len(counts)) if self.fault == "draws without the seed" else 0.0
        self._counts = (counts + noise).astype(np.float32)
        report = judged_once(self, valid, time.perf_counter(), mask_seen=mask_seen, on_epoch=on_epoch)
        return FitReport() if self.fault == "reports nothing" else report

    def scores(self, requests: Requests) -> torch.Tensor:
        items = Vocabulary(np.sort(self.catalogue)).indices(requests.item_ids)
        scores = np.tile(self._counts, (len(requests), 1))
        known = items > 0
        if self.fault == "counts unknown items":
            scores += (~known).sum()
        np.add.at(scores, (requests.row_of_event[known], items[known] - 1), 1.0)
        if self.fault == "draws in scores":
            scores += np.random.default_rng().random(scores.shape)
        if self.fault == "mixes rows":
            scores += scores[:1]
        if self.fault == "reads the target":
            scores[:, 0] += requests.targets % 7
        if self.fault == "writes into the request" and len(requests.item_ids):
            requests.item_ids[0] = 0
        if self.fault == "divides by the length":
            with np.errstate(invalid="ignore", divide="ignore"):
                scores *= (requests.lengths / requests.lengths)[:, None]
        if self.fault == "transposed":
            scores = scores.T
        if self.fault == "only knows users" and (requests.user_ids < 10).any():
            raise KeyError("user")
        return torch.from_numpy(scores.astype(np.float64 if self.fault == "doubles" else np.float32))

    def item_vectors(self) -> torch.Tensor:
        rows = len(self.catalogue) + (self.fault == "has a vector for padding")
        return torch.full((rows, 2), torch.nan if self.fault == "has vectors that are not finite" else 1.0)

    def predict_ratings(self, requests: Requests) -> torch.Tensor | None:
        found = {
            "rates no number": torch.full((len(requests),), torch.nan),
            "rates each item": torch.zeros(len(requests), len(self.catalogue)),
            "rates at random": torch.from_numpy(np.random.default_rng().random(len(requests)).astype(np.float32)),
        }
        return found.get(self.fault)

    def save(self, folder: Path) -> None:
        write_model(folder, self, {"counts": torch.from_numpy(self._counts)})
        if self.fault == "pickles":
            torch.save(torch.zeros(1), folder / "more.pt")
        if self.fault == "saves another vocabulary":
            write_vocabulary(folder, self.catalogue + 1)
        if self.fault == "saves no vocabulary":
            (folder / "vocabulary.parquet").unlink()

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Faulty:
        saved = read_model(folder)
        model = cls(FaultySettings(**saved.settings))
        model.catalogue, model._counts = saved.catalogue, saved.tensors["counts"].numpy()
        if model.fault == "unpickles":
            __import__("pickle").loads(b"cbuiltins\nprint\n.")
        if model.fault == "loads other weights":
            model._counts = model._counts + 1
        return model


SPEC = ModelSpec(kind="checked", settings=FaultySettings, recommender="tests.tasks.conformance.faulty:Faulty", seeded=False)


class Nameless(Faulty):
    name = "other"


NAMELESS = ModelSpec(kind="nameless", settings=FaultySettings, recommender="tests.tasks.conformance.faulty:Nameless")
NO_MODEL = ModelSpec(kind="no_model", settings=FaultySettings, recommender="tests.tasks.conformance.faulty:FaultySettings")
