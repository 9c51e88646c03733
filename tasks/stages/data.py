"""The tasks that build dataset versions, monitor them for drift, and decide whether a model is trained again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger

from configs.clock import wall_clock
from configs.settings import (
    DEFAULT_NOUNS,
    DataSettings,
    DriftSettings,
    DueSettings,
    EtlSettings,
    LandingSettings,
    MonitoringSettings,
    NounSettings,
    StoreSettings,
    ValidationSettings,
)
from configs.training_place import TrainingPlaceSettings
from infra.erasures import erased_users
from infra.landing_zone import open_zone
from infra.pages import visible
from infra.prefect_server import CHAMPION_AGES, DRIFT_DETECTED, DRIFT_WITHOUT_DATA, RETRAINING_DUE, model_resource
from infra.progress import step
from infra.registry import ModelRegistry
from infra.storage import open_store
from tasks.datasets import DatasetRef, record_refusal, same_content, stored_properties, write_dataset
from tasks.ingest import ReleaseRefusedError, building, locate
from tasks.landing import Landing, LandingOptions, compact, land
from tasks.monitoring import DriftResult, Monitored, monitor_dataset
from tasks.retraining import Look, StoredAnswer, decide, facts_of, keep_answer, position_of
from tasks.stages.artifacts import happened, live_progress
from tasks.stages.data_artifacts import publish_data_artifact, publish_drift_artifact, publish_due_artifact
from tasks.stages.task_options import NETWORK
from tasks.training import next_start, past_of, reach_of

__all__ = ["add_landed_files", "announce_drift", "build_dataset", "compact_dataset", "decide_retraining", "measure_drift"]


@task(name="build dataset", **NETWORK)
def build_dataset(data: DataSettings, validation: ValidationSettings, store: StoreSettings, settings: EtlSettings) -> DatasetRef:
    """Ingest, validate and enrich the source, and store it as a dataset version. A refusal is recorded beside the newest version."""
    log, place = get_run_logger(), open_store(store)
    with ExitStack() as shown:
        source = locate(data, _Download(shown), validation, stored_properties(place, data.dataset_name))
    try:
        with building(source, validation, settings, int(wall_clock()), erased_users(place)) as release:
            account = release.report.tables["interactions"]
            log.info("%s: %s interactions read", source.name, f"{account.rows:,}")
            log.info(
                "%s rows accepted, %s duplicates, %s quarantined",
                *(f"{count:,}" for count in (account.accepted, account.duplicates, len(release.quarantined))),
            )
            for file, why in source.files.passed_over.items():
                log.warning("%s is skipped: %s", visible(file), visible(why))
            for said in release.report.bad_descriptions():
                log.warning("%s", visible(said))
            dataset, refused = (
                write_dataset(place, source.name, release, release.features, source.hashes()),
                len(release.quarantined),
            )
    except ReleaseRefusedError as refusal:
        publish_data_artifact(None, refusal.report)
        happened("data: refused")
        record_refusal(place, source.name, refusal, source.hashes())
        raise
    publish_data_artifact(dataset, release.report)
    happened(f"data: {dataset.rows:,} events, {refused:,} refused")
    log.info("dataset version %s/%s", dataset.name, dataset.version)
    return dataset


@task(name="add landed files", **NETWORK)
def add_landed_files(
    data: DataSettings,
    validation: ValidationSettings,
    landing: LandingSettings,
    engine: EtlSettings,
    store: StoreSettings,
    retry_quarantined: bool = False,
    now: float | None = None,
) -> Landing:
    """Add the new files of the landing zone to the dataset, and show the account of each file.

    `now` is UTC seconds. The default is the clock of this machine.
    """
    log = get_run_logger()
    assert data.landing is not None
    options = LandingOptions(validation, landing, engine, wall_clock() if now is None else now, retry_quarantined, data)
    found = land(open_store(store), open_zone(data.landing, store), data.dataset_name, options)
    for account in found.accounts:
        log.info(
            "%s: %s rows = %s accepted + %s duplicates + %s quarantined%s",
            visible(account.file),
            *(f"{count:,}" for count in (account.rows, account.accepted, account.duplicates, account.quarantined)),
            f"; quarantined as a whole: {visible(account.why)}" if account.why else "",
        )
    for file, why in found.waiting.items():
        log.warning("%s is left for a later run: %s", visible(file), visible(why))
    publish_data_artifact(found.dataset, landing=found)
    happened(f"data: {len(found.accounts)} new files, {sum(account.accepted for account in found.accounts):,} new events")
    log.info("dataset version %s/%s, %d new files", found.dataset.name, found.dataset.version, len(found.accounts))
    return found


@task(name="compact dataset", **NETWORK)
def compact_dataset(
    data: DataSettings, landing: LandingSettings, engine: EtlSettings, store: StoreSettings, force: bool = False
) -> DatasetRef:
    """Compact the dataset's parts into one if there are too many."""
    dataset = compact(open_store(store), data.dataset_name, landing, engine.work_dir, wall_clock(), force=force)
    get_run_logger().info("dataset version %s/%s", dataset.name, dataset.version)
    return dataset


@task(name="measure drift", **NETWORK)
def measure_drift(
    dataset: DatasetRef,
    model_name: str,
    drift: DriftSettings,
    store: StoreSettings,
    monitoring: MonitoringSettings,
    span: tuple[int | None, int | None] = (None, None),
    nouns: NounSettings = DEFAULT_NOUNS,
) -> Monitored:
    """Compare the newest slice with the champion's reference, and live quality with the holdout. Store and show the outcome."""
    found = monitor_dataset(open_store(store), dataset, model_name, drift, monitoring, span=span, nouns=nouns)
    publish_drift_artifact(found, nouns, store)
    happened(f"drift: {found.result.verdict}")
    get_run_logger().info("drift of the newest slice: %s. %s", found.result.verdict, " ".join(found.result.reasons))
    return found


@task(name="announce drift", cache_policy=NO_CACHE)
def announce_drift(result: DriftResult, store: StoreSettings | None = None) -> None:
    """Emit an event to the Prefect server if the slice drifted. An automation may start a retraining (`infra.prefect_server.alerts`).

    If the champion was trained on the same data, or if only the feed has changed (a refused delivery, silence, another volume),
    retraining cannot help. Then the event is another one, which only informs people.
    """
    if result.verdict != "drifted":
        return
    helpless = not result.causes or (store is not None and _is_trained_on(result, store))
    event = DRIFT_WITHOUT_DATA if helpless else DRIFT_DETECTED
    emit_event(
        event,
        resource=model_resource(result.model_name),
        payload={
            "dataset": result.dataset,
            "champion": result.champion,
            "rows": result.rows,
            "drifted": result.drifted,
            "causes": result.causes,
            "reasons": result.reasons,
            "checks": {
                check.name: {"effect": check.effect, "bound": check.bound, "p_value": check.adjusted_p}
                for check in result.checks
                if check.verdict != "not judged"
            },
            "live_ndcg_at_10": result.live.live.ndcg_at_10 if result.live and result.live.live else None,
        },
    )
    get_run_logger().info("event %s sent: %s drifted", event, ", ".join(result.drifted))


@task(name="decide retraining", **NETWORK)
def decide_retraining(
    dataset: DatasetRef,
    found: DriftResult,
    look: Look,
    settings: DueSettings,
    store: StoreSettings,
    training: TrainingPlaceSettings,
) -> StoredAnswer:
    """Store and show whether the model is trained again now. If so, emit the event that starts the retraining.

    Args:
        dataset: Newest dataset version.
        found: What monitoring has found in it.
        look: When monitoring looks.
        settings: The policy, the budget and the promise.
        store: Store of the dataset and the model.
        training: How a training begins.
    """
    place = open_store(store)
    start = next_start(training, past_of(place, found.model_name), reach_of(dataset)) if training.warm_start else None
    answer = decide(
        settings,
        position_of(place, found.model_name, look),
        facts_of(dataset, look, found),
        model_name=found.model_name,
        dataset=f"{dataset.name}/{dataset.version}",
        champion=found.champion,
        start=start,
    )
    kept = keep_answer(place, answer)
    publish_due_artifact(kept, store)
    happened(f"retraining: {'due' if answer.retrain else 'not due'}")
    get_run_logger().info("%s", answer.message)
    resource = model_resource(answer.model_name)
    if answer.retrain:
        emit_event(RETRAINING_DUE, resource=resource, payload={**answer.to_dict(), "message": answer.message})
    if answer.stale:
        get_run_logger().warning("%s", answer.freshness)
        emit_event(CHAMPION_AGES, resource=resource, payload={"message": f"{answer.freshness} {answer.message}"})
    return kept


def _is_trained_on(result: DriftResult, store: StoreSettings) -> bool:
    champion = ModelRegistry(open_store(store)).champion_ref(result.model_name)
    return champion is not None and same_content(champion[0].dataset, result.dataset)


class _Download:
    """Download progress in the UI. Nothing is shown if nothing is downloaded."""

    def __init__(self, shown: ExitStack) -> None:
        self._stack = shown
        self._update: Callable[[float, str], None] | None = None
        self._shown = 0.0

    def __call__(self, received: int, total: int | None) -> None:
        if total is None or (time.monotonic() - self._shown < 1.0 and received < total):
            return
        self._shown = time.monotonic()
        if self._update is None:
            self._update = self._stack.enter_context(live_progress("download", "Downloading the dataset"))
        said = f"downloaded {received / 1e6:.0f} of {total / 1e6:.0f} MB"
        self._update(100 * received / total, said)
        get_run_logger().info("%s", said, extra=step("download", received, total))
