"""A model from another package, as a team would write it: items that were popular lately, the same for every user."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter
from models.evaluation import metrics, rank_requests
from models.recommender import EpochReport, FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences


class LatelySettings(Settings):
    """Popularity in which an event counts less the older it is."""

    half_life_days: float = Field(default=60.0, gt=0)
    """Number of days after which an event counts half."""


class Lately(Recommender):
    name = "lately"
    sequential = False

    def __init__(self, settings: LatelySettings) -> None:
        self._settings = settings
        self.catalogue: IntArray = np.empty(0, dtype=np.int64)
        self._counts = torch.empty(0)

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
        inside = np.isin(train.item_ids, catalogue)
        ages = (train.timestamps.max() - train.timestamps[inside]) / 86_400
        columns = np.searchsorted(catalogue, train.item_ids[inside])
        counts = np.bincount(columns, weights=0.5 ** (ages / self._settings.half_life_days), minlength=len(catalogue))
        self._counts = torch.from_numpy(counts).float()
        ranking = rank_requests(self, valid, catalogue, mask_seen=mask_seen, batch_size=256)
        report = EpochReport(1, 1, 0.0, metrics(ranking.ranks, (10,)), time.perf_counter() - started, 1)
        if on_epoch is not None:
            on_epoch(report)
        return FitReport([report], best_epoch=1, seconds=time.perf_counter() - started)

    def scores(self, requests: Requests) -> torch.Tensor:
        return self._counts.expand(len(requests), -1)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"counts": self._counts.contiguous()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model": self.name, "format": 1, "settings": self.settings()}))
        vocabulary = {"item_id": self.catalogue, "index": np.arange(1, len(self.catalogue) + 1)}
        pd.DataFrame(vocabulary).to_parquet(folder / "vocabulary.parquet", index=False)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Lately:
        config = json.loads((folder / "config.json").read_text())
        model = cls(LatelySettings(**config["settings"]))
        model.catalogue, model._counts = cls.load_files(folder, device)
        return model

    @staticmethod
    def load_files(folder: Path, device: str) -> tuple[IntArray, torch.Tensor]:
        catalogue = pd.read_parquet(folder / "vocabulary.parquet")["item_id"].to_numpy(np.int64)
        return catalogue, load_file(folder / "model.safetensors")["counts"].to(device)


SPEC = ModelSpec(
    "lately",
    LatelySettings,
    "tests.plugins.lately:Lately",
    serving="models.popularity:PopularityCounts",
    label="popular lately",
    colour="#2f7d5b",
    seeded=False,
    space={"half_life_days": Parameter(low=1, high=365, log=True)},
)
