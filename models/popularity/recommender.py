"""Popularity: items with the most interactions first, the same for every user. Every model must beat this baseline.

If events have weights, their sum counts instead of their number.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from configs.settings import PopularitySettings
from models.evaluation import metrics, rank_requests
from models.recommender import EpochReport, FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences

__all__ = ["Popularity"]


class Popularity(Recommender):
    """Scores each item by its number of events in the train part, or by the sum of their weights."""

    name = "popularity"
    sequential = False

    def __init__(self, settings: PopularitySettings) -> None:
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
        weights = None if train.weights is None else train.weights[inside]
        counts = np.bincount(np.searchsorted(catalogue, train.item_ids[inside]), weights, minlength=len(catalogue))
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
        config = {"model": self.name, "format": 1, "settings": self.settings()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        pd.DataFrame({"item_id": self.catalogue, "index": np.arange(1, len(self.catalogue) + 1)}).to_parquet(
            folder / "vocabulary.parquet", index=False
        )

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Popularity:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = cls(PopularitySettings(**config["settings"]))
        model.catalogue = pd.read_parquet(folder / "vocabulary.parquet")["item_id"].to_numpy(np.int64)
        model._counts = load_file(folder / "model.safetensors")["counts"].to(device)
        return model
