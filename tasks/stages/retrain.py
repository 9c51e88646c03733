"""The stages of a run as Prefect tasks. Each opens the resources it needs, calls the plain function, and shows the outcome.

Tasks take settings and exchange references to stored objects, so nothing large passes through Prefect. A stage is retried if the
store does not answer. Every stage can be retried safely, because writes are create-only or named by content.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from configs.errors import AlreadyExistsError, StoreUnavailableError
from configs.settings import (
    DataSettings,
    DriftSettings,
    EtlSettings,
    MonitoringSettings,
    PromotionSettings,
    RetrainSettings,
    StoreSettings,
    ValidationSettings,
)
from infra.prefect_server import DRIFT_DETECTED, model_resource
from infra.registry import PAGE, ModelRef, ModelRegistry, Promotion, StagedVersion
from infra.storage import open_store
from models.recommender import EpochReport
from tasks.datasets import DatasetRef, write_dataset
from tasks.evaluation import REPORT_FILE, Evaluation, evaluate_candidates
from tasks.gate import (
    Decision,
    Published,
    gate_of,
    judge_staged,
    judge_version,
    promote_version,
    publish,
    record_decision,
    roll_back,
    stage_challenger,
)
from tasks.ingest import building, locate
from tasks.monitoring import DriftResult, monitor_dataset
from tasks.stages import artifacts
from tasks.tracking import RunPlan, abandon_tracking, candidate_plan, candidate_record, resume_tracking, start_tracking
from tasks.training import Candidate, Origin, train_candidate
from tasks.training.candidates import CandidateKind

__all__ = [
    "NETWORK",
    "announce_drift",
    "build_dataset",
    "epoch_line",
    "evaluate_models",
    "follow_training",
    "force_promotion",
    "gate",
    "judge_again",
    "measure_drift",
    "promote_challenger",
    "publish_version",
    "record_answer",
    "record_runs",
    "return_to",
    "stage_version",
    "train_model",
]


def _may_pass(task: Any, run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), StoreUnavailableError)


NETWORK: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_condition_fn": _may_pass,
}


@task(name="build dataset", **NETWORK)
def build_dataset(data: DataSettings, validation: ValidationSettings, store: StoreSettings, settings: EtlSettings) -> DatasetRef:
    """Ingest, validate and enrich the source, and store it as a dataset version."""
    log = get_run_logger()
    source = locate(data, on_bytes=_Download())
    with building(source, validation, settings, int(time.time())) as release:
        account = release.report.tables["interactions"]
        artifacts.show_validation(release.report)
        log.info("%s: %s interactions read", source.name, f"{account.rows:,}")
        log.info("%s rows accepted, %s quarantined", f"{account.accepted:,}", f"{len(release.quarantined):,}")
        dataset = write_dataset(open_store(store), source.name, release, release.features, source.hashes())
    artifacts.show_dataset(dataset)
    log.info("dataset version %s/%s", dataset.name, dataset.version)
    return dataset


@task(name="measure drift", **NETWORK)
def measure_drift(
    dataset: DatasetRef,
    model_name: str,
    drift: DriftSettings,
    store: StoreSettings,
    monitoring: MonitoringSettings,
    since: int | None = None,
    now: int | None = None,
) -> DriftResult:
    """Compare the newest slice with the champion's reference, and live quality with the holdout. Store and show the outcome."""
    found = monitor_dataset(open_store(store), dataset, model_name, drift, monitoring, since=since, now=now)
    artifacts.show_drift(found)
    get_run_logger().info("drift of the newest slice: %s. %s", found.result.verdict, " ".join(found.result.reasons))
    return found.result


@task(name="announce drift")
def announce_drift(result: DriftResult) -> None:
    """Emit an event to the Prefect server if the slice drifted. An automation may start a retraining (`infra.prefect_server.alerts`)."""
    if result.verdict != "drifted":
        return
    emit_event(
        DRIFT_DETECTED,
        resource=model_resource(result.model_name),
        payload={
            "dataset": result.dataset,
            "champion": result.champion,
            "rows": result.rows,
            "drifted": result.drifted,
            "reasons": result.reasons,
            "checks": {
                check.name: {"effect": check.effect, "bound": check.bound, "p_value": check.adjusted_p}
                for check in result.checks
                if check.verdict != "not judged"
            },
            "live_ndcg_at_10": result.live.live.ndcg_at_10 if result.live and result.live.live else None,
        },
    )
    get_run_logger().info("event %s sent: %s drifted", DRIFT_DETECTED, ", ".join(result.drifted))


@task(name="train", task_run_name="train {kind}", **NETWORK)
def train_model(dataset: DatasetRef, kind: CandidateKind, settings: RetrainSettings) -> Candidate:
    """Train one candidate, and report its progress in the UI and the log."""
    log = get_run_logger()
    progress = cast(UUID, create_progress_artifact(0.0, key=f"training-{kind}", description=f"{kind} is training"))
    tracker = start_tracking(
        _run_plan(kind, f"{dataset.name}/{dataset.version}", settings), settings.tracking, settings.work_dir, log
    )

    def on_epoch(report: EpochReport) -> None:
        update_progress_artifact(progress, 100 * report.epoch / report.max_epochs)
        tracker.epoch(report)
        log.info("%s %s", kind, epoch_line(report))

    try:
        candidate = train_candidate(open_store(settings.store), dataset, kind, settings, on_epoch)
    except BaseException:
        abandon_tracking(str(flow_run.id))
        raise
    if candidate.replicas > 1:
        log.info("%s was trained by %d replicas", kind, candidate.replicas)
    if candidate.resumed_from is not None:
        log.info("%s resumed from epoch %d of an earlier run", kind, candidate.resumed_from)
    update_progress_artifact(progress, 100.0, description=f"{kind} kept epoch {candidate.best_epoch}")
    return candidate


def follow_training(dataset: DatasetRef, candidate: Candidate, settings: RetrainSettings) -> None:
    """Log and track a candidate of another run as if it had been trained here. Must be called within a task."""
    log = get_run_logger()
    tracker = start_tracking(
        _run_plan(candidate.kind, f"{dataset.name}/{dataset.version}", settings), settings.tracking, settings.work_dir, log
    )
    for report in candidate.epochs:
        tracker.epoch(report)
        log.info("%s %s", candidate.kind, epoch_line(report))


@task(name="evaluate", **NETWORK)
def evaluate_models(dataset: DatasetRef, candidates: list[Candidate], settings: RetrainSettings) -> Evaluation:
    """Rank all candidates on the test requests."""
    evaluation = evaluate_candidates(open_store(settings.store), dataset, candidates, settings)
    artifacts.show_training(candidates)
    artifacts.show_evaluation(evaluation)
    for model, parts in evaluation.metrics.items():
        found = parts["all"]
        get_run_logger().info(
            "%s under %s: HR@10 %.4f, NDCG@10 %.4f, MRR@10 %.4f",
            model,
            evaluation.protocol,
            found["hr@10"],
            found["ndcg@10"],
            found["mrr@10"],
        )
    for candidate in candidates:
        plan = _run_plan(candidate.kind, evaluation.dataset, settings)
        tracker = resume_tracking(plan, settings.tracking, settings.work_dir, get_run_logger())
        tracker.summary(candidate_record(plan, candidate, evaluation))
    return evaluation


@task(name="stage version", **NETWORK)
def stage_version(evaluation: Evaluation, settings: RetrainSettings) -> StagedVersion:
    """Upload the challenger's files as a staged version."""
    place = open_store(settings.store)
    staged = stage_challenger(place, settings.model_name, evaluation)
    if REPORT_FILE in staged.files:
        artifacts.show_recommendations(place.uri(f"{staged.prefix}/{REPORT_FILE}"))
    elif settings.report.recommendations:
        get_run_logger().warning(
            "The version has no %s: the report could not be rendered, or nothing was recommended.", REPORT_FILE
        )
    return staged


@task(name="gate", **NETWORK)
def gate(staged: StagedVersion, dataset: DatasetRef, settings: RetrainSettings) -> Decision:
    """Decide on the staged version against the champion."""
    decision = judge_staged(open_store(settings.store), staged, dataset, settings)
    artifacts.show_decision(decision)
    get_run_logger().info("gate: %s. %s", decision.outcome, " ".join(decision.reasons))
    return decision


@task(name="publish version", **NETWORK)
def publish_version(
    staged: StagedVersion,
    decision: Decision | None,
    challenger: Candidate,
    evaluation: Evaluation,
    settings: RetrainSettings,
    origin: Origin = Origin(),  # noqa: B008
) -> ModelRef:
    """Seal the version with its decision and lineage."""
    place = open_store(settings.store)
    version = publish(place, staged, decision, challenger, evaluation, settings, origin)
    artifacts.show_version(version)
    if decision is not None and PAGE in ModelRegistry(place).manifest(version.name, version.version)["files"]:
        artifacts.show_page(place.uri(f"{version.prefix}/{PAGE}"), decision)
    return version


@task(name="record answer", **NETWORK)
def record_answer(version: ModelRef, decision: Decision, store: StoreSettings) -> None:
    """Store and show a person's decision on a version that was already sealed."""
    place = open_store(store)
    page = record_decision(place, version, decision)
    artifacts.show_decision(decision)
    if page is not None:
        artifacts.show_page(place.uri(page), decision)


@task(name="promote version", **NETWORK)
def promote_challenger(
    version: ModelRef, decision: Decision, settings: PromotionSettings, store: StoreSettings, note: str = ""
) -> Published:
    """Make the version champion if the gate passed it."""
    published = promote_version(open_store(store), version, decision, settings, note)
    if published.decision is not decision:  # another promotion was written first, so the version was judged again
        artifacts.show_decision(published.decision)
    if published.promotion is not None:
        get_run_logger().info("%s is champion (promotion %d)", version.version, published.promotion.number)
    return published


@task(name="judge version", **NETWORK)
def judge_again(
    model_name: str, version: str, departing: PromotionSettings | None, store: StoreSettings
) -> tuple[ModelRef, Decision, PromotionSettings]:
    """Judge a stored version against the current champion.

    The version's own gate is used, overridden by the fields set in `departing`. Returns the version, the decision and that gate.
    """
    place = open_store(store)
    ref = ModelRegistry(place).version(model_name, version)
    # With `approval: manual`, this request is itself the approval.
    settings = gate_of(place, ref, departing).model_copy(update={"approval": "automatic"})
    decision = judge_version(place, ref, settings)
    artifacts.show_decision(decision)
    return ref, decision, settings


@task(name="force promotion", **NETWORK)
def force_promotion(version: ModelRef, reason: str, decision: Decision, store: StoreSettings) -> Promotion:
    """Make a version champion although the gate held it. The log entry records who did it and why."""
    place = open_store(store)
    registry = ModelRegistry(place)
    try:
        return registry.promote(
            version.name,
            version.version,
            expected=decision.champion_number,
            kind="force",
            reason=reason,
            now=datetime.now(UTC),
            decision={"outcome": decision.outcome, "reasons": decision.reasons},
        )
    except AlreadyExistsError:
        current = registry.champion(version.name)
        if current is None or (current.version, current.number) != (version.version, decision.champion_number + 1):
            raise
        return current  # written by an attempt whose response was lost


@task(name="roll back", **NETWORK)
def return_to(model_name: str, to: str | None, reason: str, settings: PromotionSettings, store: StoreSettings) -> Promotion:
    """Check the earlier version in a clean process, then make it champion."""
    return roll_back(open_store(store), model_name, to, reason, settings)


@task(name="record runs", **NETWORK)
def record_runs(
    candidates: list[Candidate], evaluation: Evaluation, decision: Decision | None, version: ModelRef, settings: RetrainSettings
) -> None:
    """Store the record of each candidate's run, and end its tracking."""
    store = open_store(settings.store)
    for candidate in candidates:
        plan = _run_plan(candidate.kind, evaluation.dataset, settings)
        record = candidate_record(plan, candidate, evaluation, decision, version)
        with suppress(AlreadyExistsError):  # written by an attempt whose response was lost; a version is recorded once
            key = f"runs/{version.name}/{version.version}/{candidate.kind}.json"
            store.put_new(key, json.dumps(record.to_dict(), indent=2).encode())
        resume_tracking(plan, settings.tracking, settings.work_dir, get_run_logger()).end(record)


def epoch_line(report: EpochReport) -> str:
    """Format an epoch for the log. The loss is left out for a model that is trained without one."""
    loss = f"loss {report.loss:.4f}, " if report.loss else ""
    return (
        f"epoch {report.epoch} of at most {report.max_epochs}: {loss}valid NDCG@10 {report.valid['ndcg@10']:.4f} (best in epoch "
        f"{report.best_epoch}), {report.seconds:.1f} s"
    )


def _run_plan(kind: str, dataset: str, settings: RetrainSettings) -> RunPlan:
    return candidate_plan(kind, dataset, settings, group=str(flow_run.id), job=str(flow_run.flow_name))


class _Download:
    """Download progress in the UI. Nothing is shown if nothing is downloaded."""

    def __init__(self) -> None:
        self._artifact: Any = None
        self._shown = 0.0

    def __call__(self, received: int, total: int | None) -> None:
        if total is None or (time.monotonic() - self._shown < 1.0 and received < total):
            return
        self._shown = time.monotonic()
        if self._artifact is None:
            self._artifact = create_progress_artifact(0.0, key="download", description="Downloading the dataset")
        update_progress_artifact(self._artifact, 100 * received / total)
        get_run_logger().info("downloaded %.0f of %.0f MB", received / 1e6, total / 1e6)
