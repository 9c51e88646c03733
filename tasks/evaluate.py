"""Ranks models on the test requests and writes what the gate and the registry keep of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings, RetrainSettings
from infra.stores import Store
from models.loading import load_recommender
from models.protocol import Split
from models.ranking import Ranking, beyond_accuracy, metrics, per_request_metrics, rank_requests, slices
from models.recommender import Recommender
from models.significance import confidence_intervals
from tasks.candidates import Candidate, read_split
from tasks.datasets import DatasetRef, read_table
from tasks.drift import reference_of
from tasks.load_check import SAMPLE_FILE, sample_requests
from tasks.registry import ModelRef, fetch_version, read_manifest

__all__ = ["Evaluation", "evaluate_candidates", "rank_version", "read_rankings"]

RANKS_FILE = "ranks.parquet"


@dataclass(frozen=True)
class Evaluation:
    """Test metrics by model and slice; the per-request ranks lie in the challenger's folder."""

    protocol: str
    dataset: str
    requests: int
    metrics: dict[str, dict[str, dict[str, float]]]  # model -> slice ("all" first) -> metric
    intervals: dict[str, dict[str, tuple[float, float]]]  # model -> metric over all requests -> 95 % bootstrap interval
    beyond_accuracy: dict[str, dict[str, float]]  # model -> metric
    folder: str


def evaluate_candidates(store: Store, dataset: DatasetRef, candidates: list[Candidate], settings: RetrainSettings) -> Evaluation:
    """Rank every candidate on the test requests of `dataset`.

    Writes evaluation.json, ranks.parquet, sample_requests.json and the drift reference into the SS4Rec candidate's folder,
    which becomes the version.
    """
    parts = read_split(store, dataset, settings.evaluation)
    challenger = next(candidate for candidate in candidates if candidate.kind == "ss4rec")
    folder = Path(challenger.folder)
    rankings: dict[str, Ranking] = {}
    for candidate in candidates:
        model = load_recommender(Path(candidate.folder))
        rankings[candidate.kind] = _rank(model, parts, settings.evaluation)
        if candidate is challenger:
            samples = sample_requests(model, parts.test, count=settings.promotion.sample_requests, seed=settings.seed)
            (folder / SAMPLE_FILE).write_text(json.dumps(samples), encoding="utf-8")
    masks = slices(parts.train, parts.test)
    by_slice = {name: _by_slice(ranking, masks, settings.evaluation) for name, ranking in rankings.items()}
    intervals = {
        name: confidence_intervals(
            per_request_metrics(ranking.ranks, settings.evaluation.ks),
            resamples=settings.promotion.resamples,
            seed=settings.promotion.seed,
        )
        for name, ranking in rankings.items()
    }
    beyond = {name: beyond_accuracy(ranking, parts.train) for name, ranking in rankings.items()}
    _write_ranks(folder / RANKS_FILE, rankings)
    features, items = read_table(store, dataset, "features"), read_table(store, dataset, "items")
    reference_of(features, items, settings.drift, settings.seed).save(folder)
    evaluation = Evaluation(
        protocol=parts.id,
        dataset=f"{dataset.name}/{dataset.version}",
        requests=len(parts.test),
        metrics=by_slice,
        intervals=intervals,
        beyond_accuracy=beyond,
        folder=challenger.folder,
    )
    record = {
        "protocol": evaluation.protocol,
        "dataset": evaluation.dataset,
        "requests": evaluation.requests,
        "split": parts.counts,
        "metrics": by_slice,
        "intervals": intervals,
        "beyond_accuracy": beyond,
        "training": {candidate.kind: candidate.to_dict() for candidate in candidates},
    }
    (folder / "evaluation.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    return evaluation


def rank_version(store: Store, ref: ModelRef, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank a stored version on the test requests. Raises VersionCorruptError when its files are not those it was sealed with."""
    with tempfile.TemporaryDirectory(prefix="recsys-version-") as folder:
        files = read_manifest(store, ref.name, ref.version)["files"]
        return _rank(load_recommender(fetch_version(store, ref.prefix, files, Path(folder))), parts, settings)


def read_rankings(path: Path, parts: Split) -> dict[str, Ranking]:
    """Rankings that `evaluate_candidates` wrote into a folder or version, without their recommendation counts."""
    frame = pd.read_parquet(path / RANKS_FILE)
    users, targets = frame["user_id"].to_numpy(np.int64), frame["target"].to_numpy(np.int64)
    nothing = np.zeros(len(parts.catalogue), dtype=np.int64)
    return {
        column.removeprefix("rank_"): Ranking(users, targets, frame[column].to_numpy(np.int64), parts.catalogue, nothing)
        for column in frame.columns
        if column.startswith("rank_")
    }


def _rank(model: Recommender, parts: Split, settings: EvaluationSettings) -> Ranking:
    mask = parts.masks_seen(model.sequential)
    return rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.batch_size)


def _by_slice(ranking: Ranking, masks: Mapping[str, Any], settings: EvaluationSettings) -> dict[str, dict[str, float]]:
    rows = {"all": np.ones(len(ranking.ranks), dtype=bool), **masks}
    return {
        name: {"requests": int(mask.sum()), **metrics(ranking.ranks[mask], settings.ks)} if mask.any() else {}
        for name, mask in rows.items()
    }


def _write_ranks(path: Path, rankings: Mapping[str, Ranking]) -> None:
    first = next(iter(rankings.values()))
    columns = {f"rank_{name}": ranking.ranks for name, ranking in rankings.items()}
    pd.DataFrame({"user_id": first.user_ids, "target": first.targets, **columns}).to_parquet(path, index=False)
