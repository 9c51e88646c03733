"""The tasks that take a challenger from its folder to the promotion log, and those that judge, promote and roll back versions."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.logging import get_run_logger

from configs.errors import AlreadyExistsError
from configs.settings import PromotionSettings, RetrainSettings, RolloutSettings, StoreSettings
from infra.registry import ModelRef, ModelRegistry, Promotion, StagedVersion, find_version, refuse_frozen
from infra.storage import open_store
from tasks.datasets import DatasetRef, remember_histories
from tasks.evaluation import REPORT_FILE, CheckedRefit, Evaluation, VersionFolder
from tasks.gate import (
    Decision,
    Published,
    gate_settings,
    judge_sealed,
    judge_staged,
    promote_version,
    publish,
    record_decision,
    refuse_unjudgeable,
    roll_back,
    stage_challenger,
    stage_refit,
    with_refit,
)
from tasks.stages.artifacts import happened
from tasks.stages.model_artifacts import publish_decision_artifact
from tasks.stages.task_options import NETWORK
from tasks.training import Candidate, Origin

__all__ = [
    "check_gate",
    "force_promotion",
    "judge_challenger",
    "judge_stored",
    "promote_challenger",
    "publish_version",
    "return_to",
    "stage_refit_model",
    "stage_version",
]


@task(name="check the gate", **NETWORK)
def check_gate(dataset: DatasetRef, settings: RetrainSettings) -> None:
    """Check before training that the gate can judge the result."""
    requests = refuse_unjudgeable(open_store(settings.store), dataset, settings)
    get_run_logger().info("the gate can judge: %d requests under %s", requests, settings.evaluation.protocol_id)


@task(name="stage version", **NETWORK)
def stage_version(folder: VersionFolder, settings: RetrainSettings) -> StagedVersion:
    """Upload the challenger's files as a staged version."""
    place = open_store(settings.store)
    staged = stage_challenger(place, settings.model_name, folder)
    if settings.report.evidently and REPORT_FILE not in staged.files:
        get_run_logger().warning(
            "The version has no %s: the report could not be rendered, or nothing was recommended.", REPORT_FILE
        )
    return staged


@task(name="gate", **NETWORK)
def judge_challenger(staged: StagedVersion, challenger_kind: str, dataset: DatasetRef, settings: RetrainSettings) -> Decision:
    """Judge the staged version against the champion."""
    decision = judge_staged(open_store(settings.store), staged, challenger_kind, dataset, settings)
    publish_decision_artifact(decision)
    happened(f"gate: {_passed(decision)}")
    get_run_logger().info("gate: %s. %s", decision.outcome, " ".join(decision.reasons))
    return decision


@task(name="stage refit", **NETWORK)
def stage_refit_model(
    staged: StagedVersion, decision: Decision, checked: CheckedRefit, settings: RetrainSettings
) -> tuple[StagedVersion, Decision]:
    """Add the weights that were trained on all events to the staged version, and what became of them to the decision."""
    told = with_refit(decision, checked.refit)
    publish_decision_artifact(told)
    return stage_refit(open_store(settings.store), staged, checked), told


@task(name="publish version", **NETWORK)
def publish_version(
    staged: StagedVersion,
    decision: Decision | None,
    challenger: Candidate,
    evaluation: Evaluation,
    settings: RetrainSettings,
    origin: Origin | None = None,
) -> ModelRef:
    """Seal the version with its decision and lineage."""
    place = open_store(settings.store)
    version = publish(place, staged, decision, challenger, evaluation, settings, origin)
    happened(f"publish {version.version}")
    return version


@task(name="promote version", **NETWORK)
def promote_challenger(
    version: ModelRef,
    decision: Decision,
    settings: PromotionSettings,
    store: StoreSettings,
    note: str = "",
    rollout: RolloutSettings | None = None,
) -> Published:
    """Make the version champion if the gate passed it, and store a person's answer on it."""
    place = open_store(store)
    published = promote_version(place, version, decision, settings, note, rollout)
    happened(f"promotion: {published.decision.outcome}")
    if published.decision != decision or decision.approval is not None:  # judged again, or answered
        publish_decision_artifact(published.decision)
    if published.promotion is not None:
        remember_histories(place, version.dataset.partition("/")[0])
        get_run_logger().info("%s is champion (promotion %d)", version.version, published.promotion.number)
    elif decision.outcome == "promoted":
        get_run_logger().warning(
            "another version became champion first; judged again, %s: %s", version.version, published.decision.outcome
        )
    return published


@task(name="judge version", **NETWORK)
def judge_stored(
    model_name: str, version: str, overrides: PromotionSettings | None, store: StoreSettings
) -> tuple[ModelRef, Decision, PromotionSettings]:
    """Judge a stored version against the current champion.

    The version's own gate is used, overridden by the fields set in `overrides`. Returns the version, the decision and that gate.
    """
    place = open_store(store)
    registry = ModelRegistry(place)
    refuse_frozen(registry.newest(model_name))
    ref = registry.version(model_name, find_version(registry, model_name, version))
    # With `approval: manual`, this request is itself the approval.
    settings = gate_settings(place, ref, overrides).model_copy(update={"approval": "automatic"})
    decision = judge_sealed(place, ref, settings)
    happened(f"gate: {_passed(decision)}")
    return ref, decision, settings


@task(name="force promotion", **NETWORK)
def force_promotion(version: ModelRef, reason: str, decision: Decision, store: StoreSettings) -> Promotion:
    """Make a version champion although the gate held it. The log entry records who did it and why."""
    place = open_store(store)
    registry = ModelRegistry(place)
    try:
        entry = registry.promote(
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
        entry = current  # written by an attempt whose response was lost
    happened("promotion: forced")
    if decision.outcome == "promoted":  # it would have passed; any other decision was stored when it was made
        record_decision(place, version, decision)
    remember_histories(place, version.dataset.partition("/")[0])
    return entry


@task(name="roll back", **NETWORK)
def return_to(model_name: str, to: str | None, reason: str, settings: PromotionSettings, store: StoreSettings) -> Promotion:
    """Check the earlier version in a clean process, then make it champion."""
    place = open_store(store)
    version = None if to is None else find_version(ModelRegistry(place), model_name, to)
    entry = roll_back(place, model_name, version, reason, settings)
    happened(f"rolled back to {entry.version}")
    for warning in entry.warnings:
        get_run_logger().warning("%s", warning)
    return entry


def _passed(decision: Decision) -> str:
    return "passed" if decision.outcome in ("promoted", "needs approval") else decision.outcome
