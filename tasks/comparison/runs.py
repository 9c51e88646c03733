"""Comparisons: several models, several seeds, one dataset version, one protocol.

A comparison is stored under `comparisons/<id>/`. `comparison.json` holds the facts that its runs have in common. Each run has its
ranks in `runs/<entry>-<seed>.parquet`, sealed by its record in `runs/<entry>-<seed>.json`. Both files are written once, so a
comparison that was killed resumes with the missing runs.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import AlreadyExistsError, ComparisonError, NotFoundError, SettingsError, VersionCorruptError
from configs.redaction import safe_settings
from configs.studies import CompareSettings, EntrySettings
from infra.digests import sha256_of, sha256_of_json
from infra.registry import git_commit
from infra.storage import Store
from models.evaluation import Ranking, confidence_intervals, list_metrics, metrics, per_request_metrics, rank_requests
from models.loading import make_recommender
from models.recommender import IntArray, OnEpoch
from models.training import Replicas
from tasks.datasets import DatasetRef, read_table
from tasks.tracking import RunPlan, RunRecord
from tasks.training import read_split

__all__ = [
    "StoredRun",
    "begin_comparison",
    "missing_runs",
    "pinned_dataset",
    "read_record",
    "read_run",
    "refuse_other_requests",
    "run_entry",
    "run_plan",
    "runs_of",
]


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run of the comparison: its record, and the rank of each request's target."""

    entry: str
    seed: int
    record: RunRecord
    user_ids: IntArray  # (R,)
    targets: IntArray  # (R,) raw item ids
    ranks: IntArray  # (R,) from 1


def begin_comparison(store: Store, dataset: DatasetRef, settings: CompareSettings) -> str:
    """Store the dataset version and protocol of the comparison, and return its id.

    Raises:
        SettingsError: A comparison with this id has another dataset version or protocol.
    """
    facts = {"dataset": f"{dataset.name}/{dataset.version}", "protocol": settings.evaluation.protocol_id}
    comparison = settings.id or _content_id(facts, settings)
    created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    try:
        store.put_new(
            f"comparisons/{comparison}/comparison.json", json.dumps({"format": 1, "created": created, **facts}).encode()
        )
    except AlreadyExistsError:
        stored = _read_json(store, f"comparisons/{comparison}/comparison.json")
        for name, value in facts.items():
            if stored.get(name) != value:
                raise SettingsError(
                    f"The comparison {comparison} was started with the {name} {stored.get(name)}, but this run has {value}: "
                    "their figures cannot be compared. Use the original value, or give this comparison another id."
                ) from None
    return comparison


def pinned_dataset(store: Store, settings: CompareSettings) -> str | None:
    """The dataset version `name/version` from the settings or the stored comparison with this id, or None if neither has one."""
    if settings.dataset is not None or settings.id is None:
        return settings.dataset
    try:
        return str(_read_json(store, f"comparisons/{settings.id}/comparison.json")["dataset"])
    except NotFoundError:
        return None


def runs_of(settings: CompareSettings) -> list[tuple[EntrySettings, int]]:
    """Entry and seed of each run of the comparison."""
    return [(entry, seed) for entry in settings.entries for seed in settings.seeds_of(entry)]


def missing_runs(store: Store, comparison: str, settings: CompareSettings) -> list[tuple[EntrySettings, int]]:
    """Return the runs that are not stored yet.

    Checkpoints of stored runs are deleted: a run that was killed right after it was stored leaves them behind.

    Raises:
        SettingsError: A stored run used other settings for its model.
    """
    missing = []
    for entry, seed in runs_of(settings):
        try:
            stored = read_record(store, comparison, entry.name, seed)
        except NotFoundError:
            missing.append((entry, seed))
            continue
        shutil.rmtree(_checkpoints(settings, comparison, entry, seed), ignore_errors=True)
        before, now = stored.plan.settings["model"], _model_settings(entry)
        changed = [f"{name} {before[name]}, now {now[name]}" for name in now if name in before and before[name] != now[name]]
        if stored.plan.kind != entry.kind:
            changed = [f"kind {stored.plan.kind}, now {entry.kind}"]
        if changed:
            raise SettingsError(
                f"{entry.name} of the comparison {comparison} was run with other settings ({'; '.join(changed)}). Give the entry "
                "another name, or give the comparison another id."
            )
    return missing


def run_plan(comparison: str, entry: EntrySettings, seed: int, dataset: DatasetRef, settings: CompareSettings) -> RunPlan:
    """Return the facts about the run that are known before it starts."""
    return RunPlan(
        name=f"{entry.name}-{seed}",
        group=comparison,
        job="compare",
        kind=entry.kind,
        seed=seed,
        dataset=f"{dataset.name}/{dataset.version}",
        protocol=settings.evaluation.protocol_id,
        settings={
            "entry": safe_settings(entry),
            "model": _model_settings(entry),
            "evaluation": safe_settings(settings.evaluation),
        },
        git_commit=git_commit(),
    )


def run_entry(
    store: Store,
    comparison: str,
    entry: EntrySettings,
    seed: int,
    dataset: DatasetRef,
    settings: CompareSettings,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train the entry with one seed, rank the test requests, and store the run.

    If an earlier attempt was killed, training resumes from its last epoch. If several replicas train together, only the first one
    ranks and stores.

    Raises:
        TrainingError: Training cannot start, or it diverges.
    """
    model = make_recommender(entry.kind, entry.models)
    model.prepare()
    model.describe_users(read_table(store, dataset, "users"))
    parts = read_split(store, dataset, settings.evaluation)
    mask = parts.masks_seen(model.sequential)
    checkpoints = _checkpoints(settings, comparison, entry, seed)
    fitted = model.fit(
        parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=mask, checkpoint_dir=checkpoints, on_epoch=on_epoch
    )
    replicas = Replicas.current()
    if replicas.rank > 0:
        return
    ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.evaluation.batch_size)
    intervals = confidence_intervals(
        per_request_metrics(ranking.ranks, settings.evaluation.ks), resamples=settings.resamples, seed=settings.bootstrap_seed
    )
    seconds = max(fitted.seconds, sum(report.seconds for report in fitted.epochs))  # a resumed fit reports its own part only
    record = RunRecord(
        plan=run_plan(comparison, entry, seed, dataset, settings),
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        resumed_from=fitted.resumed_from,
        parameters=fitted.parameters,
        device=fitted.device,
        replicas=replicas.count,
        seconds=round(seconds, 3),
        requests=len(parts.test),
        metrics=metrics(ranking.ranks, settings.evaluation.ks),
        intervals=intervals,
        beyond_accuracy=list_metrics(ranking, parts.train),
        cost=None if settings.hourly_price is None else round(seconds * settings.hourly_price / 3600, 6),
    )
    _write_run(store, _run_key(comparison, entry.name, seed), record, ranking)
    shutil.rmtree(checkpoints, ignore_errors=True)


def read_record(store: Store, comparison: str, entry: str, seed: int) -> RunRecord:
    """Read the record of a run. Raises NotFoundError if the run has not ended."""
    return RunRecord.from_dict(_read_json(store, f"{_run_key(comparison, entry, seed)}.json"))


def read_run(store: Store, comparison: str, entry: str, seed: int) -> StoredRun:
    """Read a run with its ranks.

    Raises:
        NotFoundError: The run has not ended.
        VersionCorruptError: The ranks differ from those that were sealed.
    """
    key = _run_key(comparison, entry, seed)
    sealed = _read_json(store, f"{key}.json")
    content = store.get(f"{key}.parquet")
    if sha256_of(content) != sealed["ranks_sha256"]:
        raise VersionCorruptError(
            f"{store.uri(f'{key}.parquet')} does not match its record. Delete both files, and start the comparison again: "
            "only missing runs are executed."
        )
    frame = pd.read_parquet(io.BytesIO(content))
    users, targets, ranks = (frame[column].to_numpy(np.int64) for column in ("user_id", "target", "rank"))
    return StoredRun(entry, seed, RunRecord.from_dict(sealed), users, targets, ranks)


def refuse_other_requests(runs: list[StoredRun]) -> None:
    """Raise ComparisonError if two runs were not ranked on the same requests."""
    for run in runs[1:]:
        if not (np.array_equal(run.user_ids, runs[0].user_ids) and np.array_equal(run.targets, runs[0].targets)):
            raise ComparisonError(
                f"{run.entry} seed {run.seed} and {runs[0].entry} seed {runs[0].seed} were ranked on different requests, "
                "although they have the same dataset version and protocol: different versions of this product made the splits. "
                "Give the comparison another id."
            )


def _write_run(store: Store, key: str, record: RunRecord, ranking: Ranking) -> None:
    buffer = io.BytesIO()
    columns = {"user_id": ranking.user_ids, "target": ranking.targets, "rank": ranking.ranks}
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    content = buffer.getvalue()
    sealed = {"format": 1, **record.to_dict(), "ranks_sha256": sha256_of(content)}
    try:
        store.put_new(f"{key}.parquet", content)
    except AlreadyExistsError:
        if store.exists(f"{key}.json"):
            return  # another process has stored this run
        if store.get(f"{key}.parquet") != content:  # left by a process that was killed before it sealed them
            store.delete(f"{key}.parquet")
            store.put_new(f"{key}.parquet", content)
    with suppress(AlreadyExistsError):  # another process has just stored this run
        store.put_new(f"{key}.json", json.dumps(sealed, indent=2).encode())


def _checkpoints(settings: CompareSettings, comparison: str, entry: EntrySettings, seed: int) -> Path:
    return settings.work_dir / "comparisons" / comparison / f"{entry.name}-{seed}"


def _run_key(comparison: str, entry: str, seed: int) -> str:
    return f"comparisons/{comparison}/runs/{entry}-{seed}"


def _model_settings(entry: EntrySettings) -> dict[str, Any]:
    return safe_settings(getattr(entry.models, entry.kind))


def _content_id(facts: dict[str, str], settings: CompareSettings) -> str:
    """Hash everything that determines the figures into 12 hex digits.

    Seeds are left out, so a run with more seeds extends the same comparison.
    """
    entries = {entry.name: [entry.kind, _model_settings(entry)] for entry in settings.entries}
    code = git_commit() or importlib.metadata.version("movielens-recsys")
    return sha256_of_json([facts, entries, code])[:12]


def _read_json(store: Store, key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except ValueError as error:
        raise VersionCorruptError(
            f"{store.uri(key)} cannot be read as JSON ({error}): it was changed after it was stored. Delete it, and start the "
            "comparison again: only missing runs are executed."
        ) from error
    return found
