"""Publish a trained challenger to the registry and, if it passes the gate, promote it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import AlreadyExistsError, GateError, TrainingError, VersionCorruptError
from configs.loading import merged
from configs.redaction import safe_settings
from configs.settings import EvaluationSettings, PromotionSettings, RetrainSettings
from infra.registry import Lineage, ModelRef, ModelRegistry, Promotion, StagedVersion, machine_facts, refuse_changed
from infra.storage import Store
from models.evaluation import Split, list_metrics, slices
from models.loading import load_recommender
from tasks.best_effort import LOG, drawn
from tasks.datasets import DatasetRef, load_dataset_ref, verify_dataset
from tasks.evaluation import Evaluation, LoadCheck, check_staged, rank, rank_version, read_rankings, seen_share
from tasks.gate.decision import Decision
from tasks.gate.page import render_html
from tasks.gate.rules import Challenger, Champion, GateInputs, decide, hold_unranked
from tasks.training import Candidate, Origin, read_split

__all__ = [
    "Published",
    "gate_of",
    "judge_staged",
    "judge_version",
    "promote_version",
    "publish",
    "record_decision",
    "stage_challenger",
]

UNJUDGED = {"outcome": "not judged", "reasons": ["Trained without the gate. Judge it with `recsys model promote`."]}


@dataclass(frozen=True)
class Published:
    """A sealed version, the decision on it, and the entry that made it champion, or None if it was not promoted."""

    version: ModelRef
    decision: Decision
    promotion: Promotion | None


def stage_challenger(store: Store, name: str, evaluation: Evaluation) -> StagedVersion:
    """Upload the challenger's files as a staged version, without a manifest.

    Raises:
        VersionCorruptError: The files have changed since the evaluation.
    """
    folder = Path(evaluation.folder)
    refuse_changed(folder, evaluation.files, since="evaluated")
    return ModelRegistry(store).stage(name, folder, datetime.now(UTC), evaluation.files)


def judge_staged(store: Store, staged: StagedVersion, dataset: DatasetRef, settings: RetrainSettings) -> Decision:
    """Check the staged version in a clean process, and decide on it against the current champion."""
    return _judge(store, staged, "ss4rec", dataset, settings.evaluation, settings.promotion)


def publish(
    store: Store,
    staged: StagedVersion,
    decision: Decision | None,
    challenger: Candidate,
    evaluation: Evaluation,
    settings: RetrainSettings,
    origin: Origin = Origin(),  # noqa: B008
) -> ModelRef:
    """Seal the version with its decision and lineage."""
    lineage = Lineage(
        kind=challenger.kind,
        dataset=evaluation.dataset,
        protocol=evaluation.protocol,
        seed=settings.seed,
        settings=safe_settings(settings),
        metrics=evaluation.metrics[challenger.kind]["all"],
        duration_s=round(challenger.seconds, 1),
        cost=origin.cost,
        **(origin.machine or machine_facts(challenger.replicas)),
    )
    page = drawn("The decision's page", render_html, LOG, decision) if decision else None
    return ModelRegistry(store).seal(staged, decision.to_dict() if decision else UNJUDGED, lineage, datetime.now(UTC), page)


def promote_version(store: Store, ref: ModelRef, decision: Decision, settings: PromotionSettings, note: str = "") -> Published:
    """Make a version champion if the decision is to promote it.

    If another promotion was written first, the version is judged again against that champion.

    Args:
        store: Store with the registry and the promotion log.
        ref: Version to promote.
        decision: The gate's decision on the version.
        settings: Settings of the gate, for judging again.
        note: Note for the log by the person who requested the promotion.

    Raises:
        AlreadyExistsError: Another promotion came first `settings.races` times.
    """
    registry = ModelRegistry(store)
    for _ in range(settings.races):
        if decision.outcome != "promoted":
            return Published(ref, decision, None)
        try:
            entry = registry.promote(
                ref.name,
                ref.version,
                expected=decision.champion_number,
                reason=_why(decision, note),
                now=datetime.now(UTC),
                decision=_in_short(decision),
            )
            return Published(ref, decision, entry)
        except AlreadyExistsError:
            current = registry.champion(ref.name)
            if current is not None and current.version == ref.version:  # written by an attempt whose response was lost
                return Published(ref, decision, current)
            decision = judge_version(store, ref, settings)
    raise AlreadyExistsError(
        f"{ref.name} got a new champion {settings.races} times while {ref.version} was judged. The version is stored; "
        f"try again with `recsys model promote {ref.version}`."
    )


def judge_version(store: Store, ref: ModelRef, settings: PromotionSettings) -> Decision:
    """Judge a sealed version again on its dataset's test requests, and add the record to the version's decisions."""
    manifest = ModelRegistry(store).manifest(ref.name, ref.version)
    evaluation = EvaluationSettings.model_validate(manifest["lineage"]["settings"]["evaluation"])
    name, version = ref.dataset.split("/")
    stored = StagedVersion(ref.name, ref.version, ref.prefix, manifest["files"])
    decision = _judge(store, stored, ref.kind, load_dataset_ref(store, name, version), evaluation, settings)
    record_decision(store, ref, decision)
    return decision


def gate_of(store: Store, ref: ModelRef, given: PromotionSettings | None = None) -> PromotionSettings:
    """Return the gate settings that the version was trained with, overridden by the fields that `given` sets explicitly.

    With the default settings instead, a version that a stricter gate held could pass when it is judged again.
    """
    manifest = ModelRegistry(store).manifest(ref.name, ref.version)
    own = PromotionSettings.model_validate(manifest["lineage"]["settings"]["promotion"])
    departing = given.model_dump(exclude_unset=True) if given is not None else {}
    return PromotionSettings.model_validate(merged(own.model_dump(), departing))


def record_decision(store: Store, ref: ModelRef, decision: Decision) -> str | None:
    """Store a decision made after the version was sealed, as a page and as JSON.

    Returns the key of the page, or None if it could not be rendered.
    """
    page = drawn("The decision's page", render_html, LOG, decision)
    return ModelRegistry(store).add_decision(ref, decision.to_dict(), datetime.now(UTC), page)


def _judge(
    store: Store,
    stored: StagedVersion,
    kind: str,
    dataset: DatasetRef,
    evaluation: EvaluationSettings,
    settings: PromotionSettings,
) -> Decision:
    """Rank the stored version and the champion, and decide.

    Only the baselines' ranks are read from the stored files, which the digest in the version's name verifies. A version that a
    clean process could not load is not loaded here.
    """
    verify_dataset(store, dataset)
    parts = read_split(store, dataset, evaluation)
    registry = ModelRegistry(store)
    current = registry.champion_ref(stored.name)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(registry.fetched(stored))
        except VersionCorruptError as error:
            return _held(stored, dataset, parts, current, LoadCheck.failed(str(error)), settings)
        rankings = read_rankings(folder, dataset, parts)
        if kind not in rankings:
            raise GateError(f"The ranks stored with {stored.version} do not include its own kind, {kind}; train again.")
        check = check_staged(store, stored, settings)
        if not check.ok:
            return _held(stored, dataset, parts, current, check, settings)
        try:
            ranking = rank(load_recommender(folder), parts, evaluation)
        except TrainingError as error:  # NaN or infinite scores on requests that were not sampled
            return _held(stored, dataset, parts, current, replace(check, ok=False, reason=str(error)), settings)
        try:
            theirs = _rank_champion(store, current, dataset, parts, evaluation)
        except (GateError, VersionCorruptError) as error:
            # Hold the version but keep it: the champion is at fault, and a forced promotion can replace it.
            return _held(stored, dataset, parts, current, check, settings, str(error))
    recorded = rankings.pop(kind)
    inputs = GateInputs(
        model_name=stored.name,
        dataset=f"{dataset.name}/{dataset.version}",
        protocol=parts.id,
        challenger=Challenger(stored.version, ranking, list_metrics(ranking, parts.train), check, recorded=recorded),
        baselines=rankings,
        champion=theirs,
        slices=slices(parts.train, parts.test),
    )
    return decide(inputs, settings)


def _held(
    stored: StagedVersion,
    dataset: DatasetRef,
    parts: Split,
    current: tuple[ModelRef, Promotion] | None,
    check: LoadCheck,
    settings: PromotionSettings,
    champion_fault: str | None = None,
) -> Decision:
    decision = hold_unranked(
        model_name=stored.name,
        dataset=f"{dataset.name}/{dataset.version}",
        protocol=parts.id,
        requests=len(parts.test),
        challenger=stored.version,
        champion=current[0].version if current else None,
        champion_number=current[1].number if current else 0,
        check=check,
        settings=settings,
        champion_fault=champion_fault,
    )
    return decision


def _rank_champion(
    store: Store,
    current: tuple[ModelRef, Promotion] | None,
    dataset: DatasetRef,
    parts: Split,
    settings: EvaluationSettings,
) -> Champion | None:
    if current is None:
        return None
    ref, promotion = current
    manifest = ModelRegistry(store).manifest(ref.name, ref.version)
    own = EvaluationSettings.model_validate(manifest["lineage"]["settings"]["evaluation"])
    if own.train_id != settings.train_id:
        raise GateError(
            f"The champion {ref.version} was trained under {own.train_id}, but this run evaluates under {settings.train_id}: "
            f"the train part of one contains test events of the other. Set evaluation to {own.train_id}, or give this run "
            "another model_name."
        )
    return Champion(
        ref.version,
        promotion.number,
        rank_version(store, ref, parts, settings),
        seen_share=seen_share(store, ref, dataset, settings),
    )


def _why(decision: Decision, note: str) -> str:
    by = f", approved by {decision.approval.who}" if decision.approval else ""
    said = note.strip() or (decision.approval.note if decision.approval else "")
    return f"passed the gate{by}{': ' + said if said else ''}"


def _in_short(decision: Decision) -> dict[str, Any]:
    kept = asdict(decision)
    return {key: kept[key] for key in ("outcome", "dataset", "protocol", "requests", "metrics", "tests", "champion")}
