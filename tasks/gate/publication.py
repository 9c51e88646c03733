"""Store a trained challenger in the registry: stage its files, seal them as a version, and promote the version if it passed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import AlreadyExistsError
from configs.redaction import safe_settings
from configs.settings import PromotionSettings, RetrainSettings, RolloutSettings, model_option
from infra.registry import Lineage, ModelRef, ModelRegistry, Promotion, StagedVersion, begin_rollout, refuse_changed
from infra.storage import Store
from tasks.best_effort import LOG, attempt
from tasks.evaluation import CheckedRefit, Evaluation, Refit, VersionFolder
from tasks.gate.decision import Decision
from tasks.gate.judging import judge_sealed, record_decision
from tasks.gate.page import render_html
from tasks.training import Candidate, Machine, Origin

__all__ = ["Published", "promote_version", "publish", "stage_challenger", "stage_refit", "with_refit"]

UNJUDGED = {"outcome": "not judged", "reasons": ["Trained without the gate. Judge it with `recsys model promote VERSION`."]}


@dataclass(frozen=True)
class Published:
    """A sealed version, the decision on it, and the entry that made it champion, or None if it was not promoted."""

    version: ModelRef
    decision: Decision
    promotion: Promotion | None
    page: str | None = None  # key of the decision's page, if the decision was stored after the version was sealed


def stage_challenger(store: Store, name: str, folder: VersionFolder) -> StagedVersion:
    """Upload the challenger's files as a staged version of the model `name`, without a manifest.

    Raises:
        VersionCorruptError: The files have changed since the evaluation.
    """
    path = Path(folder.path)
    refuse_changed(path, folder.files, since="evaluated")
    return ModelRegistry(store).stage(name, path, datetime.now(UTC), folder.files)


def with_refit(decision: Decision, refit: Refit) -> Decision:
    """Return the decision with what became of the training on all events."""
    return replace(decision, refit=refit)


def stage_refit(store: Store, staged: StagedVersion, checked: CheckedRefit) -> StagedVersion:
    """Upload the weights that were trained on all events beside the judged ones, if they passed their checks.

    Raises:
        VersionCorruptError: The files have changed since the check.
    """
    if checked.folder is None:
        return staged
    path = Path(checked.folder.path)
    refuse_changed(path, checked.folder.files, since="checked")
    return ModelRegistry(store).stage_serving(staged, path, checked.folder.files)


def publish(
    store: Store,
    staged: StagedVersion,
    decision: Decision | None,
    challenger: Candidate,
    evaluation: Evaluation,
    settings: RetrainSettings,
    origin: Origin | None = None,
) -> ModelRef:
    """Seal the version with its decision and lineage.

    Args:
        store: Store with the staged version.
        staged: The version.
        decision: The gate's decision on it, or None if it was not judged.
        challenger: The candidate that becomes the version.
        evaluation: Evaluation of the candidates.
        settings: Settings of the run.
        origin: Where the candidates were trained; None if it was on this machine.
    """
    machine = origin.machine if origin is not None else Machine.here(challenger)
    lineage = Lineage(
        kind=challenger.kind,
        dataset=evaluation.dataset,
        protocol=evaluation.protocol,
        seed=settings.seed,
        settings=safe_settings(settings),
        metrics=evaluation.metrics[challenger.kind]["all"],
        duration_s=round(challenger.seconds, 1),
        cost=origin.cost if origin is not None else None,
        git_commit=machine.git_commit,
        python=machine.python,
        packages=machine.packages,
        hardware=machine.hardware,
    )
    page = attempt("The decision's page", render_html, LOG, decision) if decision else None
    return ModelRegistry(store).seal(staged, decision.to_dict() if decision else UNJUDGED, lineage, datetime.now(UTC), page)


def promote_version(
    store: Store,
    ref: ModelRef,
    decision: Decision,
    settings: PromotionSettings,
    note: str = "",
    rollout: RolloutSettings | None = None,
) -> Published:
    """Make a version champion if the decision is to promote it.

    If another promotion was written first, the version is judged again against that champion. A person's approval of the former
    decision does not count for the new one. A decision to promote is stored after the promotion, so that no record says more than
    the log.

    Args:
        store: Store with the registry and the promotion log.
        ref: Version to promote.
        decision: The gate's decision on the version, with a person's answer if one was needed.
        settings: Settings of the gate, for judging again.
        note: Note for the log by the person who requested the promotion.
        rollout: How the version takes over from the champion. By default, at once.

    Raises:
        AlreadyExistsError: Another promotion came first `settings.max_retries_on_conflict` times.
        FrozenError: The model is frozen.
    """
    registry = ModelRegistry(store)
    for left in reversed(range(settings.max_retries_on_conflict)):
        if decision.outcome != "promoted":
            return Published(ref, decision, None, record_decision(store, ref, decision) if decision.approval else None)
        try:
            entry = _write(store, ref, decision, note, rollout)
            return Published(ref, decision, entry, _record_promoted(store, ref, decision))
        except AlreadyExistsError:
            current = registry.champion(ref.name)
            if current is not None and current.version == ref.version:  # written by an attempt whose response was lost
                return Published(ref, decision, current, _record_promoted(store, ref, decision))
            if left:
                decision = judge_sealed(store, ref, settings)
    raise AlreadyExistsError(
        f"{ref.name} got a new champion {settings.max_retries_on_conflict} times while {ref.version} was judged. The version is stored; "
        f"try again with `recsys model promote {ref.version}{model_option(ref.name)}`."
    )


def _write(store: Store, ref: ModelRef, decision: Decision, note: str, rollout: RolloutSettings | None) -> Promotion:
    """Write the promotion's entry in the log. A first champion has nothing to be compared with, so it serves everybody at once."""
    expected, why, now, short = decision.champion_number, _why(decision, note), datetime.now(UTC), _in_short(decision)
    if rollout is not None and rollout.enabled and expected:
        return begin_rollout(store, ref, rollout, expected=expected, reason=why, now=now, decision=short)
    return ModelRegistry(store).promote(ref.name, ref.version, expected=expected, reason=why, now=now, decision=short)


def _record_promoted(store: Store, ref: ModelRef, decision: Decision) -> str | None:
    """Store the decision that promoted a version, unless the version was sealed with it. Return the key of its page."""
    sealed = ModelRegistry(store).decision(ref)
    return None if json.loads(json.dumps(decision.to_dict())) == sealed else record_decision(store, ref, decision)


def _why(decision: Decision, note: str) -> str:
    by = f", approved by {decision.approval.who}" if decision.approval else ""
    said = note.strip() or (decision.approval.note if decision.approval else "")
    return f"passed the gate{by}{': ' + said if said else ''}"


def _in_short(decision: Decision) -> dict[str, Any]:
    kept = asdict(decision)
    return {
        key: kept[key] for key in ("outcome", "dataset", "protocol", "requests", "metrics", "tests", "champion", "margin_from")
    }
