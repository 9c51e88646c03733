"""One run of a comparison: an entry is trained with one seed, ranked on the test requests, and stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from configs.redaction import safe_settings
from configs.studies import CompareSettings, EntrySettings
from infra.registry import git_commit
from infra.storage import Store
from models.evaluation import confidence_intervals, list_metrics, metrics, per_request_metrics, rank_requests
from models.loading import make_recommender
from models.plugins import check_fitted
from models.recommender import OnEpoch
from models.training import Replicas
from tasks.comparison.stored_runs import run_key, write_run
from tasks.datasets import DatasetRef, read_table
from tasks.tracking import RunPlan, RunRecord
from tasks.training import read_split

__all__ = ["checkpoints_of", "model_settings", "run_entry", "run_plan"]


def run_plan(comparison: str, entry: EntrySettings, seed: int, dataset: DatasetRef, settings: CompareSettings) -> RunPlan:
    """Return the facts about the run that are known before it starts."""
    return RunPlan(
        name=f"{entry.name}-{seed}",
        group=comparison,
        job="compare",
        kind=entry.kind,
        seed=seed,
        dataset=f"{dataset.name}/{dataset.version}",
        protocol=settings.evaluation.protocol_id_for(dataset.properties.repeats),
        settings={
            "entry": safe_settings(entry),
            "model": model_settings(entry),
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
    model.describe_items(read_table(store, dataset, "items"))
    parts = read_split(store, dataset, settings.evaluation)
    mask = parts.masks_seen(model.sequential)
    checkpoints = checkpoints_of(settings, comparison, entry, seed)
    fitted = model.fit(
        parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=mask, checkpoint_dir=checkpoints, on_epoch=on_epoch
    )
    check_fitted(entry.kind, fitted)
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
    write_run(store, run_key(comparison, entry.name, seed), record, ranking)
    shutil.rmtree(checkpoints, ignore_errors=True)


def checkpoints_of(settings: CompareSettings, comparison: str, entry: EntrySettings, seed: int) -> Path:
    return settings.work_dir / "comparisons" / comparison / f"{entry.name}-{seed}"


def model_settings(entry: EntrySettings) -> dict[str, Any]:
    return safe_settings(entry.models.of(entry.kind))
