"""Rank models on the test requests, and write the files that the gate and the registry need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import GateError, NotFoundError, VersionCorruptError
from configs.settings import EvaluationSettings, RetrainSettings
from infra.registry import ModelRef, ModelRegistry, file_digests, read_json, refuse_changed
from infra.storage import Store
from models.evaluation import (
    Ranking,
    Split,
    confidence_intervals,
    genres_of,
    list_metric_intervals,
    metrics,
    per_request_metrics,
    rank_requests,
    slices,
)
from models.loading import load_recommender
from models.recommender import Recommender, Requests
from tasks.best_effort import LOG, drawn
from tasks.datasets import DatasetRef, load_dataset_ref, quarantined, read_table
from tasks.evaluation.business_value import Value, value_of
from tasks.evaluation.catalogue import write_catalogue
from tasks.evaluation.evidently_page import REPORT_FILE, Shown, recommendations_page
from tasks.evaluation.load_check import SAMPLE_FILE, sample_requests
from tasks.monitoring import reference_of
from tasks.training import Candidate, read_split

__all__ = ["Evaluation", "evaluate_candidates", "rank", "rank_version", "read_rankings", "seen_share"]

RANKS_FILE = "ranks.parquet"
RECORD_FILE = "evaluation.json"
BEYOND_RESAMPLES = 2000  # for intervals that the gate does not use
PAGE_METRICS = ("hr@10", "ndcg@10", "mrr@10")


@dataclass(frozen=True)
class Evaluation:
    """Test metrics by model and slice. The per-request ranks are stored in the challenger's folder."""

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
    files: dict[str, str]  # name -> sha256 of every file in the folder; the version must consist of exactly these


def evaluate_candidates(store: Store, dataset: DatasetRef, candidates: list[Candidate], settings: RetrainSettings) -> Evaluation:
    """Rank every candidate on the test requests of `dataset`.

    Writes evaluation.json, ranks.parquet, sample_requests.json, catalogue.parquet and the drift reference into the SS4Rec
    candidate's folder, which becomes the version. Also writes recsys_report.html there if the settings ask for it.

    Raises:
        VersionCorruptError: A candidate's files have changed since training.
    """
    parts = read_split(store, dataset, settings.evaluation)
    challenger = next(candidate for candidate in candidates if candidate.kind == "ss4rec")
    folder = Path(challenger.folder)
    rankings: dict[str, Ranking] = {}
    for candidate in candidates:
        refuse_changed(Path(candidate.folder), candidate.files, since="trained", more=True)
        model = load_recommender(Path(candidate.folder))
        rankings[candidate.kind] = rank(model, parts, settings.evaluation)
        if candidate is challenger:
            samples = sample_requests(model, parts.test, count=settings.promotion.sample_requests, seed=settings.seed)
            (folder / SAMPLE_FILE).write_text(json.dumps(samples), encoding="utf-8")
    features, items = read_table(store, dataset, "features"), read_table(store, dataset, "items")
    write_catalogue(folder, parts.catalogue, items, parts.train)
    masks, genres = slices(parts.train, parts.test), genres_of(items)
    beyond = {
        name: list_metric_intervals(
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
        files={},
    )
    _write_ranks(folder / RANKS_FILE, rankings)
    reference_of(features, items, settings.drift, settings.seed, quarantined(store, dataset)).save(folder)
    record = asdict(evaluation)
    del record["folder"], record["files"]
    record |= {"split": parts.counts, "training": {candidate.kind: candidate.to_dict() for candidate in candidates}}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
    if settings.report.recommendations:
        _write_page(folder / REPORT_FILE, rankings, parts, items, evaluation, settings)
    return replace(evaluation, files=file_digests(folder))


def rank_version(store: Store, ref: ModelRef, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank a stored version on the test requests. Raises VersionCorruptError if its files differ from those that were sealed."""
    with ModelRegistry(store).fetched(ref) as folder:
        return rank(load_recommender(folder), parts, settings)


def read_rankings(folder: Path, dataset: DatasetRef, parts: Split) -> dict[str, Ranking]:
    """Read the rankings that `evaluate_candidates` stored in a version, without the recommended items.

    Raises:
        GateError: The rankings are not of the test requests of `parts`.
        VersionCorruptError: The files cannot be read, or hold invalid ranks.
    """
    try:
        record = read_json((folder / RECORD_FILE).read_bytes(), f"{RECORD_FILE} of the version")
        frame = pd.read_parquet(folder / RANKS_FILE)
        columns = ["user_id", "target", *[str(column) for column in frame.columns if str(column).startswith("rank_")]]
        values = {column: frame[column].to_numpy() for column in columns}
    except (OSError, ValueError, KeyError) as error:
        raise VersionCorruptError(
            f"The version's {RECORD_FILE} or {RANKS_FILE} cannot be read ({error}); train again."
        ) from error
    for column in columns:
        if values[column].dtype != np.int64 or (column.startswith("rank_") and values[column].min(initial=1) < 1):
            raise VersionCorruptError(
                f"The column {column} in {RANKS_FILE} of the version does not hold integers from 1; train again."
            )
    ours = (f"{dataset.name}/{dataset.version}", parts.id)
    found = (record.get("dataset"), record.get("protocol")) if isinstance(record, dict) else (None, None)
    users, targets = values.pop("user_id"), values.pop("target")
    if found != ours or not (np.array_equal(users, parts.test.user_ids) and np.array_equal(targets, parts.test.targets)):
        raise GateError(
            f"The version was evaluated on requests of {found[0]} under {found[1]}, but it is now judged on other requests, "
            f"those of {ours[0]} under {ours[1]}, which may hold out events that it was trained on. Train on the dataset "
            "version that it is judged on."
        )
    nothing = np.zeros((len(users), 0), dtype=np.int32)
    return {
        column.removeprefix("rank_"): Ranking(users, targets, ranks, parts.catalogue, nothing) for column, ranks in values.items()
    }


def seen_share(store: Store, ref: ModelRef, dataset: DatasetRef, settings: EvaluationSettings) -> float | None:
    """Return the share of test requests on `dataset` whose target event the version `ref` was trained or chosen on.

    Such an event is in the train or the valid part of the version's own dataset version under `settings`. Returns None if that
    dataset version is no longer stored.
    """
    if ref.dataset == f"{dataset.name}/{dataset.version}":
        return 0.0
    try:
        own = load_dataset_ref(store, *ref.dataset.split("/"))
    except NotFoundError:
        return None
    timed = settings.model_copy(update={"request_time": "target"})
    learnt, asked = read_split(store, own, timed), read_split(store, dataset, timed).test
    train = learnt.train
    events = {"user": train.user_ids[train.row_of_event], "item": train.item_ids, "time": train.timestamps}
    seen = pd.concat([pd.DataFrame(events), _targets(learnt.valid)]).drop_duplicates()
    found = _targets(asked).merge(seen, how="left", indicator=True)
    return float((found["_merge"] == "both").mean())


def rank(model: Recommender, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank the test requests under the protocol."""
    mask = parts.masks_seen(model.sequential)
    return rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.batch_size)


def _targets(requests: Requests) -> pd.DataFrame:
    return pd.DataFrame({"user": requests.user_ids, "item": requests.targets, "time": requests.request_times})


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
    page = drawn(
        "The page of the recommendations",
        recommendations_page,
        LOG,
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
