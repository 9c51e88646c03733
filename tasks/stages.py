"""The stages of a run as Prefect tasks: each opens what it needs, calls the plain function, and shows the outcome.

Tasks take settings and exchange references to what is stored, so nothing large passes through Prefect. A stage that meets a
store which does not answer is tried again; every stage can be, because writes are create-only or named by content.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from configs.errors import AlreadyExistsError, StoreUnavailableError
from configs.settings import DataSettings, DriftSettings, PromotionSettings, RetrainSettings, StoreSettings, ValidationSettings
from infra.stores import open_store
from models.recommender import EpochReport
from tasks import artifacts, publish, track
from tasks.candidates import Candidate, CandidateKind, train_candidate
from tasks.datasets import DatasetRef, read_table, write_dataset
from tasks.decision import Decision
from tasks.drift import DriftResult, Reference, detect_drift, newest_slice, reference_of
from tasks.evaluate import Evaluation, evaluate_candidates
from tasks.features import build_features
from tasks.ingest import ingest
from tasks.promotions import Promotion, promote
from tasks.recsys_report import REPORT_FILE
from tasks.registry import PAGE, ModelRef, StagedVersion, fetch_version, model_ref, read_manifest
from tasks.rollback import roll_back
from tasks.validate import validate

__all__ = [
    "NETWORK",
    "build_dataset",
    "evaluate_models",
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
def build_dataset(data: DataSettings, validation: ValidationSettings, store: StoreSettings) -> DatasetRef:
    """Ingest, validate and enrich the source, and store it as a dataset version."""
    log = get_run_logger()
    source = ingest(data, on_bytes=_Download())
    log.info("%s: %s interactions read", source.name, f"{len(source.tables.interactions):,}")
    validated = validate(source.tables, validation, int(time.time()))
    artifacts.show_validation(validated.report)
    log.info("%s rows accepted, %s quarantined", f"{len(validated.interactions):,}", f"{len(validated.quarantined):,}")
    features = build_features(validated.interactions)
    dataset = write_dataset(open_store(store), source.name, validated, features, source.source_hashes)
    artifacts.show_dataset(dataset)
    log.info("dataset version %s/%s", dataset.name, dataset.version)
    return dataset


@task(name="measure drift", **NETWORK)
def measure_drift(dataset: DatasetRef, model_name: str, settings: DriftSettings, store: StoreSettings) -> DriftResult:
    """Compare the newest slice with the champion's reference, or with the older events where there is no champion."""
    place = open_store(store)
    features, items = read_table(place, dataset, "features"), read_table(place, dataset, "items")
    older, newest = newest_slice(features, settings)
    current = publish.champion_ref(place, model_name)
    reference = reference_of(older, items, settings, seed=0)
    if current is not None:
        reference = _champion_reference(store, current[0])
    report = detect_drift(reference, newest, items, settings)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    prefix = f"drift/{dataset.name}/{dataset.version}/{stamp}"
    place.put_new(f"{prefix}.json", json.dumps(report.result.to_dict(), indent=2).encode())
    if report.html is not None:
        place.put_new(f"{prefix}.html", report.html)
    artifacts.show_drift(report.result, place.uri(f"{prefix}.html") if report.html is not None else None)
    get_run_logger().info("drift of the newest slice: %s. %s", report.result.verdict, " ".join(report.result.reasons))
    return report.result


@task(name="train", task_run_name="train {kind}", **NETWORK)
def train_model(dataset: DatasetRef, kind: CandidateKind, settings: RetrainSettings) -> Candidate:
    """Train one candidate, with its progress in the UI and the log."""
    log = get_run_logger()
    progress = cast(UUID, create_progress_artifact(0.0, key=f"training-{kind}", description=f"{kind} is training"))
    tracker = track.begin(
        _run_plan(kind, f"{dataset.name}/{dataset.version}", settings), settings.tracking, settings.work_dir, log
    )

    def on_epoch(report: EpochReport) -> None:
        valid = report.valid["ndcg@10"]
        update_progress_artifact(progress, 100 * report.epoch / report.max_epochs)
        tracker.epoch(report)
        log.info(
            "%s epoch %d of at most %d: loss %.4f, valid NDCG@10 %.4f (best in epoch %d), %.1f s",
            kind, report.epoch, report.max_epochs, report.loss, valid, report.best_epoch, report.seconds,
        )  # fmt: skip

    try:
        candidate = train_candidate(open_store(settings.store), dataset, kind, settings, on_epoch)
    except BaseException:
        track.abandon(str(flow_run.id))
        raise
    if candidate.resumed_from is not None:
        log.info("%s went on from epoch %d of a run that had not ended", kind, candidate.resumed_from)
    update_progress_artifact(progress, 100.0, description=f"{kind} kept epoch {candidate.best_epoch}")
    return candidate


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
        tracker = track.begun(plan, settings.tracking, settings.work_dir, get_run_logger())
        tracker.summary(track.candidate_record(plan, candidate, evaluation))
    return evaluation


@task(name="stage version", **NETWORK)
def stage_version(evaluation: Evaluation, settings: RetrainSettings) -> StagedVersion:
    """Upload the challenger's files."""
    place = open_store(settings.store)
    staged = publish.stage_challenger(place, settings.model_name, evaluation)
    if REPORT_FILE in staged.files:
        artifacts.show_recommendations(place.uri(f"{staged.prefix}/{REPORT_FILE}"))
    return staged


@task(name="gate", **NETWORK)
def gate(staged: StagedVersion, dataset: DatasetRef, settings: RetrainSettings) -> Decision:
    """Decide on the staged version against the champion."""
    decision = publish.judge(open_store(settings.store), staged, dataset, settings)
    artifacts.show_decision(decision)
    get_run_logger().info("gate: %s. %s", decision.outcome, " ".join(decision.reasons))
    return decision


@task(name="publish version", **NETWORK)
def publish_version(
    staged: StagedVersion, decision: Decision | None, challenger: Candidate, evaluation: Evaluation, settings: RetrainSettings
) -> ModelRef:
    """Seal the version with its decision and lineage."""
    place = open_store(settings.store)
    version = publish.publish(place, staged, decision, challenger, evaluation, settings)
    artifacts.show_version(version)
    if decision is not None:
        artifacts.show_page(place.uri(f"{version.prefix}/{PAGE}"), decision)
    return version


@task(name="record answer", **NETWORK)
def record_answer(version: ModelRef, decision: Decision, store: StoreSettings) -> None:
    """Keep what a person said of a version that was sealed before, and show it."""
    place = open_store(store)
    artifacts.show_decision(decision)
    artifacts.show_page(place.uri(publish.record_decision(place, version, decision)), decision)


@task(name="promote version", **NETWORK)
def promote_challenger(
    version: ModelRef, decision: Decision, settings: PromotionSettings, store: StoreSettings, note: str = ""
) -> publish.Published:
    """Make the version champion if the gate passed it."""
    published = publish.promote_version(open_store(store), version, decision, settings, note)
    if published.decision is not decision:  # another promotion came between, so it was judged anew
        artifacts.show_decision(published.decision)
    if published.promotion is not None:
        get_run_logger().info("%s is champion (promotion %d)", version.version, published.promotion.number)
    return published


@task(name="judge version", **NETWORK)
def judge_again(model_name: str, version: str, settings: PromotionSettings, store: StoreSettings) -> tuple[ModelRef, Decision]:
    """Decide on a stored version against the champion of now."""
    place = open_store(store)
    ref = model_ref(place, model_name, version)
    decision = publish.judge_version(place, ref, settings)
    artifacts.show_decision(decision)
    return ref, decision


@task(name="force promotion", **NETWORK)
def force_promotion(version: ModelRef, reason: str, decision: Decision, store: StoreSettings) -> Promotion:
    """Make a version champion that the gate held; the entry says who and why."""
    return promote(
        open_store(store),
        version.name,
        version.version,
        expected=decision.champion_number,
        kind="force",
        reason=reason,
        now=datetime.now(UTC),
        decision={"outcome": decision.outcome, "reasons": decision.reasons},
    )


@task(name="roll back", **NETWORK)
def return_to(model_name: str, to: str | None, reason: str, settings: PromotionSettings, store: StoreSettings) -> Promotion:
    """Load the earlier version in a clean process, then make it champion."""
    return roll_back(open_store(store), model_name, to, reason, settings)


@task(name="record runs", **NETWORK)
def record_runs(
    candidates: list[Candidate], evaluation: Evaluation, decision: Decision | None, version: ModelRef, settings: RetrainSettings
) -> None:
    """Keep the record of each candidate's run beside the store's versions, and end its tracking."""
    store = open_store(settings.store)
    for candidate in candidates:
        plan = _run_plan(candidate.kind, evaluation.dataset, settings)
        record = track.candidate_record(plan, candidate, evaluation, decision, version)
        with suppress(AlreadyExistsError):  # an attempt whose answer was lost: a version is recorded once
            key = f"runs/{version.name}/{version.version}/{candidate.kind}.json"
            store.put_new(key, json.dumps(record.to_dict(), indent=2).encode())
        track.begun(plan, settings.tracking, settings.work_dir, get_run_logger()).end(record)


def _run_plan(kind: str, dataset: str, settings: RetrainSettings) -> track.RunPlan:
    return track.candidate_plan(kind, dataset, settings, group=str(flow_run.id), job=str(flow_run.flow_name))


def _champion_reference(store: StoreSettings, ref: ModelRef) -> Reference:
    import tempfile

    place = open_store(store)
    files = read_manifest(place, ref.name, ref.version)["files"]
    kept = {name: digest for name, digest in files.items() if name.startswith("reference_")}
    with tempfile.TemporaryDirectory(prefix="recsys-reference-") as folder:
        return Reference.load(fetch_version(place, ref.prefix, kept, Path(folder)))


class _Download:
    """Download progress in the UI; there is none when nothing is downloaded."""

    def __init__(self) -> None:
        self._artifact: Any = None
        self._shown = 0.0

    def __call__(self, received: int, total: int | None) -> None:
        if total is None or (time.monotonic() - self._shown < 1.0 and received < total):
            return
        self._shown = time.monotonic()
        if self._artifact is None:
            self._artifact = create_progress_artifact(0.0, key="download", description="Downloading the data set")
        update_progress_artifact(self._artifact, 100 * received / total)
        get_run_logger().info("downloaded %.0f of %.0f MB", received / 1e6, total / 1e6)
