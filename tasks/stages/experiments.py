"""The stages of a search and of a comparison as Prefect tasks.

Each task opens the resources it needs, calls the plain function, and shows the outcome.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.logging import get_run_logger

from configs.studies import CompareSettings, SearchSettings
from infra.progress import step
from infra.storage import open_store
from models.recommender import EpochReport, TeacherEpoch
from tasks.comparison import (
    Failure,
    ModelComparison,
    compare_runs,
    headline,
    read_record,
    render_html,
    run_entry_apart,
    run_plan,
    write_report,
)
from tasks.datasets import DatasetRef
from tasks.search import SearchRecord, StudyRef, TrialRecord, conclude_study, open_study, run_trials, search_progress
from tasks.stages.artifacts import happened, live_progress
from tasks.stages.study_artifacts import publish_search_artifact
from tasks.stages.task_options import NETWORK
from tasks.stages.training import EpochsTrained, epoch_line
from tasks.tracking import RunRecord, start_tracking

__all__ = ["begin_search", "compare_entry", "conclude_search", "report_comparison", "search_trials"]


@task(name="begin search", **NETWORK)
def begin_search(dataset: DatasetRef, settings: SearchSettings) -> StudyRef:
    """Create the study, or open the existing one."""
    log, ref = get_run_logger(), open_study(dataset, settings)
    log.info("study %s in %s, %d trials started before", ref.name, ref.storage, ref.begun)
    if not ref.starts_with_base:
        log.info("the configured models.%s lies outside the search space, so it is not one of the trials", settings.challenger)
    return ref


@task(name="search", task_run_name="search worker {worker}", **NETWORK)
def search_trials(dataset: DatasetRef, ref: StudyRef, settings: SearchSettings, worker: int = 0) -> int:
    """Train trials until the study has enough, and report their progress in the UI and the log."""
    log = get_run_logger()
    with live_progress("search-progress", "no trial has ended yet") as shown:

        def on_trial(trial: TrialRecord, trials: list[TrialRecord]) -> None:
            percent, said = search_progress(trials, settings.search.trials)
            shown(percent, said)
            value = "" if trial.value is None else f", valid NDCG@10 {trial.value:.4f} (best in epoch {trial.best_epoch})"
            log.info(
                "trial %d %s after %d epochs%s. %s",
                *(trial.number, trial.state, trial.epochs, value, trial.reason or said),
                extra=step("trials", percent, 100),
            )

        return run_trials(open_store(settings.store), dataset, ref, settings, worker, on_trial)


@task(name="conclude search", **NETWORK)
def conclude_search(dataset: DatasetRef, ref: StudyRef, settings: SearchSettings) -> SearchRecord:
    """Store the results of the search and show them."""
    record = conclude_study(open_store(settings.store), dataset, ref, settings, datetime.now(UTC))
    publish_search_artifact(record)
    get_run_logger().info("%s", search_progress(record.trials, settings.search.trials)[1])
    return record


@task(name="compare entry", task_run_name="{entry} seed {seed}", **NETWORK)
def compare_entry(comparison: str, entry: str, seed: int, dataset: DatasetRef, settings: CompareSettings) -> RunRecord:
    """Do one run of a comparison in a separate process, and report its progress in the UI and the log."""
    log, chosen, store, name = get_run_logger(), settings.entry(entry), open_store(settings.store), f"{entry} seed {seed}"
    tracker = start_tracking(run_plan(comparison, chosen, seed, dataset, settings), settings.tracking, settings.work_dir, log)
    kept: RunRecord | None = None
    with live_progress(f"run-{entry}-{seed}", f"{name} is training") as shown:
        trained = EpochsTrained()

        def on_epoch(report: EpochReport) -> None:
            done, total = trained.after(report)
            shown(100 * done / total, epoch_line(report))
            if not isinstance(report, TeacherEpoch):
                tracker.epoch(report)
            log.info("%s %s", name, epoch_line(report), extra=step(name, done, total))

        try:
            run_entry_apart(comparison, chosen, seed, dataset, settings, on_epoch)
            kept = read_record(store, comparison, entry, seed)
        finally:
            tracker.end(kept)
    done = f"{name}: NDCG@10 {kept.metrics['ndcg@10']:.4f}"
    happened(done)
    log.info("%s", done, extra=step(name, 1, 1))
    return kept


@task(name="report comparison", **NETWORK)
def report_comparison(
    comparison: str, dataset: DatasetRef, failures: list[Failure], settings: CompareSettings
) -> ModelComparison:
    """Compare the stored runs, then store and show the report."""
    store = open_store(settings.store)
    found = compare_runs(store, comparison, dataset, failures, settings)
    write_report(store, found, render_html(found))
    get_run_logger().info("comparison %s: %s", found.id, headline(found))
    return found
