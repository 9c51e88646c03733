"""The entries of the promotion log that follow a promotion: a rollout's steps, and freezing and thawing a model.

Each one is decided against the newest entry and can only be written directly after it. So whoever repeats a step after a crash, or takes
it at the same time as another process, writes it once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from configs.errors import AlreadyExistsError, ChampionMissingError, FrozenError, RecsysError
from configs.settings import RolloutSettings, model_option
from infra.leases import leased
from infra.registry.promotion_log import Promotion, PromotionKind, PromotionLog
from infra.registry.registry import ModelRegistry
from infra.registry.rollouts import Rollout
from infra.registry.versions import ModelRef
from infra.storage import Store

__all__ = ["abort_rollout", "advance_rollout", "begin_rollout", "freeze", "thaw"]

ATTEMPTS = 5  # to freeze or thaw, if others write to the log at the same time


def begin_rollout(
    store: Store, ref: ModelRef, settings: RolloutSettings, *, expected: int, reason: str, now: datetime, decision: dict[str, Any]
) -> Promotion:
    """Make a version the champion, for a share of the users at first.

    Args:
        store: Store of the version.
        ref: The version.
        settings: The stages, and when each one begins and ends. The old version is the champion, or if its own rollout is under way,
            the version that serves the other users.
        expected: Number of the log entry that the decision was made against. It must not be 0: then there is no old version.
        reason: Reason for the log.
        now: Time of the promotion.
        decision: The gate's decision in short.

    Raises:
        AlreadyExistsError: Another entry was written first.
        FrozenError: The model is frozen.
        VersionCorruptError: The version differs from what was sealed.
    """
    log, registry = PromotionLog(store, ref.name), ModelRegistry(store)
    since = int(now.timestamp()) + settings.settle_s
    before = log.numbered(expected)
    old, manifest = before.version, before.manifest
    if before.rolling_out is not None:
        old, manifest = before.rolling_out.old, before.rolling_out.manifest
    rollout = Rollout(old, manifest, tuple(settings.stages), 0, since, expected + 1, settings.model_dump(mode="json"))
    with leased(store, f"a promotion of {ref.version}", [ref.prefix]):
        registry.verify(ref)
        return log.append(ref, expected=expected, kind="promote", reason=reason, now=now, decision=decision, rollout=rollout)


def advance_rollout(store: Store, entry: Promotion, *, reason: str, now: datetime) -> Promotion:
    """Write that the rollout goes on to its next stage.

    Args:
        store: Store of the log.
        entry: The newest entry, which the step was decided against.
        reason: Reason for the log.
        now: Time of the step.

    Raises:
        AlreadyExistsError: Another entry was written first.
        FrozenError: The model is frozen.
        RecsysError: No rollout is under way.
    """
    rollout = _under_way(entry)
    since = int(now.timestamp()) + RolloutSettings.model_validate(rollout.settings).settle_s
    following = replace(rollout, stage=rollout.stage + 1, since=since, entry=entry.number + 1)
    return _append(store, entry, "advance", reason, now, following)


def abort_rollout(store: Store, entry: Promotion, *, reason: str, now: datetime) -> Promotion:
    """Write that the rollout ended and the old version is champion again. This works while the model is frozen, too.

    Args:
        store: Store of the log.
        entry: The newest entry, which the step was decided against.
        reason: Reason for the log.
        now: Time of the step.

    Raises:
        AlreadyExistsError: Another entry was written first.
        RecsysError: No rollout is under way.
    """
    rollout, log = _under_way(entry), PromotionLog(store, entry.name)
    ref = ModelRegistry(store).version(entry.name, rollout.old)
    replace(entry, version=rollout.old, manifest=rollout.manifest).refuse_edited(ref)
    return log.append(ref, expected=entry.number, kind="return", reason=reason, now=now)


def freeze(store: Store, name: str, *, reason: str, now: datetime) -> Promotion:
    """Write that nothing of the model is promoted, and no rollout goes on, until it is thawed. Serving goes on.

    Raises:
        ChampionMissingError: The model has no champion.
        FrozenError: It is frozen already.
    """
    return _beside(store, name, "freeze", reason, now)


def thaw(store: Store, name: str, *, reason: str, now: datetime) -> Promotion:
    """Write that the model may be promoted again, and that its rollout goes on.

    Raises:
        ChampionMissingError: The model has no champion.
        FrozenError: It is not frozen.
    """
    return _beside(store, name, "thaw", reason, now)


def _beside(store: Store, name: str, kind: Literal["freeze", "thaw"], reason: str, now: datetime) -> Promotion:
    """Write an entry that changes neither champion nor rollout, after whatever is written meanwhile."""
    for left in reversed(range(ATTEMPTS)):
        entry = PromotionLog(store, name).newest()
        if entry is None:
            raise ChampionMissingError(
                f"{name} has no champion yet, so there is nothing to {kind}. `recsys retrain{model_option(name)}` creates the first one."
            )
        if kind == "thaw" and entry.frozen is None:
            raise FrozenError(f"{name} is not frozen, so there is nothing to thaw.")
        try:
            return _append(store, entry, kind, reason, now, entry.rollout)
        except AlreadyExistsError:
            if not left:
                raise
    raise AssertionError("the last attempt returns or raises")


def _under_way(entry: Promotion) -> Rollout:
    if entry.rolling_out is None:
        raise RecsysError(f"No rollout of {entry.name} is under way: {entry.version} serves everybody.")
    return entry.rolling_out


def _append(
    store: Store, entry: Promotion, kind: PromotionKind, reason: str, now: datetime, rollout: Rollout | None
) -> Promotion:
    """Write an entry with the same champion directly after `entry`."""
    ref = ModelRegistry(store).promoted(entry)
    return PromotionLog(store, entry.name).append(ref, expected=entry.number, kind=kind, reason=reason, now=now, rollout=rollout)
