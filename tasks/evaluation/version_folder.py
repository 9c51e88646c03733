"""The folder that becomes a version: the challenger's model files, and the files that gate, registry and serving need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import GateError, VersionCorruptError
from configs.settings import RetrainSettings
from infra.registry import file_digests, read_json
from infra.storage import Store
from models.columns import Columns
from models.evaluation import Ranking, Split
from tasks.best_effort import LOG, attempt
from tasks.datasets import DatasetRef, external_ids, quarantined, read_table
from tasks.evaluation.catalogue import schema_of, write_catalogue
from tasks.evaluation.evidently_page import REPORT_FILE, Named, Shown, recommendations_page
from tasks.evaluation.load_check import SAMPLE_FILE
from tasks.evaluation.measurement import Measurement
from tasks.monitoring import read_features, reference_of
from tasks.training import Candidate

__all__ = ["RANKS_FILE", "VersionFolder", "assemble_version", "read_collapses", "read_rankings"]

RANKS_FILE = "ranks.parquet"
RECORD_FILE = "evaluation.json"
PAGE_METRICS = ("hr@10", "ndcg@10", "mrr@10")


@dataclass(frozen=True)
class Collapses:
    """What a version's record tells of trainings that collapsed. Records of earlier versions tell nothing."""

    challenger: str  # one sentence if the challenger never learnt more than popularity
    warnings: tuple[str, ...]  # one sentence for each other collapse: a baseline's, or one after the epoch that was kept


@dataclass(frozen=True)
class VersionFolder:
    """A local folder with all files of a version that is not stored yet."""

    path: str
    files: dict[str, str]  # name -> sha256; the version must consist of exactly these files


def assemble_version(
    folder: Path,
    measured: Measurement,
    candidates: list[Candidate],
    store: Store,
    dataset: DatasetRef,
    settings: RetrainSettings,
) -> VersionFolder:
    """Add what was measured to the challenger's folder, which then becomes the version.

    Writes evaluation.json, ranks.parquet, sample_requests.json, schema.json, catalogue.parquet and the drift reference. Also writes
    recsys_report.html if the settings ask for it.

    Args:
        folder: Folder with the challenger's model files.
        measured: Measurement of the candidates.
        candidates: The candidates, whose training is recorded.
        store: Store of the dataset.
        dataset: Dataset version that the candidates were trained on.
        settings: Settings of the run.
    """
    parts, evaluation = measured.parts, measured.evaluation
    features = read_features(store, dataset)
    items, users = read_table(store, dataset, "items"), read_table(store, dataset, "users")
    (folder / SAMPLE_FILE).write_text(json.dumps(measured.samples), encoding="utf-8")
    schema = schema_of(dataset, items, settings.data.nouns)
    schema.write(folder)
    texts = external_ids(store, dataset, Columns.ITEM)
    described = items if texts is None else items.assign(**{Columns.EXTERNAL_ID: items[Columns.ITEM].map(texts)})
    write_catalogue(folder, parts.catalogue, described, parts.train, schema)
    _write_ranks(folder / RANKS_FILE, measured.rankings)
    delivered = quarantined(store, dataset, refused=False)
    repeats = dataset.properties.keeps_repeats
    reference_of(features, items, settings.drift, settings.seed, delivered, users, repeats).save(folder)
    training = {candidate.kind: candidate.to_dict() for candidate in candidates}
    record = {**asdict(evaluation), "split": parts.counts, "training": training}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
    if settings.report.evidently:
        named = Named(items, texts, external_ids(store, dataset, Columns.USER), settings.data.nouns)
        _write_page(folder / REPORT_FILE, measured, named, settings)
    return VersionFolder(str(folder), file_digests(folder))


def read_collapses(folder: Path, challenger: str) -> Collapses:
    """Read from a version's record which trainings collapsed. `challenger` is the kind of its model.

    Raises:
        VersionCorruptError: The record cannot be read.
    """
    try:
        trained = read_json((folder / RECORD_FILE).read_bytes(), f"{RECORD_FILE} of the version")["training"]
        found = {
            kind: (run.get("collapsed", ""), run["best_epoch"], [epoch.get("warning", "") for epoch in run["epochs"]][-1:])
            for kind, run in trained.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VersionCorruptError(f"The version's {RECORD_FILE} cannot be read ({error!r}); train again.") from error
    warnings = [
        f"{kind}: {collapsed or latest[0]} Epoch {kept} was kept."
        for kind, (collapsed, kept, latest) in found.items()
        if (collapsed and kind != challenger) or (not collapsed and any(latest))
    ]
    return Collapses(found.get(challenger, ("",))[0], tuple(warnings))


def read_rankings(folder: Path, dataset: DatasetRef, parts: Split) -> dict[str, Ranking]:
    """Read the rankings that `assemble_version` stored in a version, without the recommended items.

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


def _write_ranks(path: Path, rankings: Mapping[str, Ranking]) -> None:
    first = next(iter(rankings.values()))
    columns = {f"rank_{name}": ranking.ranks for name, ranking in rankings.items()}
    pd.DataFrame({"user_id": first.user_ids, "target": first.targets, **columns}).to_parquet(path, index=False)


def _write_page(path: Path, measured: Measurement, named: Named, settings: RetrainSettings) -> None:
    rankings, challenger, evaluation = measured.rankings, measured.challenger_kind, measured.evaluation
    baseline = next((kind for kind in reversed(rankings) if kind != challenger), None)
    page = attempt(
        "The page of the recommendations",
        recommendations_page,
        LOG,
        Shown(f"{challenger}, the challenger", rankings[challenger]),
        Shown(f"{baseline}, a baseline of the same run", rankings[baseline]) if baseline is not None else None,
        measured.parts.train,
        named,
        figures={
            model: {name: found["all"][name] for name in PAGE_METRICS} | evaluation.beyond_accuracy[model]
            for model, found in evaluation.metrics.items()
        },
        settings=settings.report,
        seed=settings.seed,
    )
    if page is not None:
        path.write_bytes(page)
