"""Ranks models on the test requests and writes what the gate and the registry keep of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings, RetrainSettings
from infra.stores import Store
from models.beyond_accuracy import beyond_accuracy_intervals, genres_of
from models.loading import load_recommender
from models.protocol import Split
from models.ranking import Ranking, metrics, per_request_metrics, rank_requests, slices
from models.recommender import Recommender
from models.significance import confidence_intervals
from tasks.candidates import Candidate, read_split
from tasks.datasets import DatasetRef, read_table
from tasks.drift import reference_of
from tasks.load_check import SAMPLE_FILE, sample_requests
from tasks.recsys_report import REPORT_FILE, Shown, recommendations_page
from tasks.registry import ModelRef, fetch_version, read_manifest
from tasks.value import Value, value_of

__all__ = ["Evaluation", "evaluate_candidates", "rank_version", "read_rankings"]

RANKS_FILE = "ranks.parquet"
BEYOND_RESAMPLES = 2000  # of intervals that decide nothing
PAGE_METRICS = ("hr@10", "ndcg@10", "mrr@10")


@dataclass(frozen=True)
class Evaluation:
    """Test metrics by model and slice; the per-request ranks lie in the challenger's folder."""

    protocol: str
    dataset: str
    requests: int
    metrics: dict[str, dict[str, dict[str, float]]]  # model -> slice ("all" first) -> metric
    intervals: dict[
        str, dict[str, tuple[float, float]]
    ]  # model -> metric that is a mean over requests -> 95 % bootstrap interval
    beyond_accuracy: dict[str, dict[str, float]]  # model -> metric
    value: Value
    folder: str


def evaluate_candidates(store: Store, dataset: DatasetRef, candidates: list[Candidate], settings: RetrainSettings) -> Evaluation:
    """Rank every candidate on the test requests of `dataset`.

    Writes evaluation.json, ranks.parquet, sample_requests.json, the drift reference and, where the settings want it,
    recsys_report.html into the SS4Rec candidate's folder, which becomes the version.
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
    features, items = read_table(store, dataset, "features"), read_table(store, dataset, "items")
    masks, genres = slices(parts.train, parts.test), genres_of(items)
    beyond = {
        name: beyond_accuracy_intervals(
            ranking, parts.train, parts.test, genres, resamples=BEYOND_RESAMPLES, seed=settings.promotion.seed
        )
        for name, ranking in rankings.items()
    }
    evaluation = Evaluation(
        protocol=parts.id,
        dataset=f"{dataset.name}/{dataset.version}",
        requests=len(parts.test),
        metrics={name: _by_slice(ranking, masks, settings.evaluation) for name, ranking in rankings.items()},
        intervals={name: _intervals(ranking, settings) | beyond[name][1] for name, ranking in rankings.items()},
        beyond_accuracy={name: values for name, (values, _) in beyond.items()},
        value=value_of(rankings, "ss4rec", settings.value, resamples=settings.promotion.resamples, seed=settings.promotion.seed),
        folder=challenger.folder,
    )
    _write_ranks(folder / RANKS_FILE, rankings)
    reference_of(features, items, settings.drift, settings.seed).save(folder)
    record = asdict(evaluation)
    del record["folder"]
    record |= {"split": parts.counts, "training": {candidate.kind: candidate.to_dict() for candidate in candidates}}
    (folder / "evaluation.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    if settings.report.recommendations:
        _write_page(folder / REPORT_FILE, rankings, parts, items, evaluation, settings)
    return evaluation


def rank_version(store: Store, ref: ModelRef, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank a stored version on the test requests. Raises VersionCorruptError when its files are not those it was sealed with."""
    with tempfile.TemporaryDirectory(prefix="recsys-version-") as folder:
        files = read_manifest(store, ref.name, ref.version)["files"]
        return _rank(load_recommender(fetch_version(store, ref.prefix, files, Path(folder))), parts, settings)


def read_rankings(path: Path, parts: Split) -> dict[str, Ranking]:
    """Rankings that `evaluate_candidates` wrote into a folder or version, without what was recommended."""
    frame = pd.read_parquet(path / RANKS_FILE)
    users, targets = frame["user_id"].to_numpy(np.int64), frame["target"].to_numpy(np.int64)
    nothing = np.zeros((len(users), 0), dtype=np.int32)
    return {
        column.removeprefix("rank_"): Ranking(users, targets, frame[column].to_numpy(np.int64), parts.catalogue, nothing)
        for column in frame.columns
        if column.startswith("rank_")
    }


def _rank(model: Recommender, parts: Split, settings: EvaluationSettings) -> Ranking:
    mask = parts.masks_seen(model.sequential)
    return rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.batch_size)


def _intervals(ranking: Ranking, settings: RetrainSettings) -> dict[str, tuple[float, float]]:
    columns = per_request_metrics(ranking.ranks, settings.evaluation.ks)
    return confidence_intervals(columns, resamples=settings.promotion.resamples, seed=settings.promotion.seed)


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


def _write_page(
    path: Path,
    rankings: Mapping[str, Ranking],
    parts: Split,
    items: pd.DataFrame,
    evaluation: Evaluation,
    settings: RetrainSettings,
) -> None:
    baseline = "ncf" if "ncf" in rankings else "popularity"
    page = recommendations_page(
        Shown("ss4rec, the challenger", rankings["ss4rec"]),
        Shown(f"{baseline}, a baseline of the same run", rankings[baseline]),
        parts.train,
        items,
        figures={
            model: {name: found["all"][name] for name in PAGE_METRICS} | evaluation.beyond_accuracy[model]
            for model, found in evaluation.metrics.items()
        },
        requests=settings.report.requests,
        train_events=settings.report.train_events,
        seed=settings.seed,
    )
    if page is not None:
        path.write_bytes(page)
