"""Decide when a policy retrains: pure rules over what is known at the moment. Replays and production use the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from configs.settings import PolicySettings

__all__ = ["DAY_S", "Facts", "Standing", "described", "due", "foreseen", "period_start"]

DAY_S = 86_400


@dataclass(frozen=True)
class Standing:
    """A model's last training, promoted or held."""

    at: int  # UTC seconds: the end of its slice in a replay, otherwise by the clock of `Facts.at`
    rows: int | None  # events in its dataset; None if the dataset is no longer stored
    content: str  # content id of its dataset


@dataclass(frozen=True)
class Facts:
    """What is known now."""

    at: int  # UTC seconds
    rows: int  # events in the newest dataset version
    content: str  # content id of that version
    drifted: bool = False  # in a way that training again can help with
    decay: float | None = None  # relative loss of live NDCG@10 that chance does not explain; None if there is none


def due(policy: PolicySettings, last: Standing, now: Facts) -> str | None:
    """Return why the policy retrains now, or None if it does not.

    A dataset with the same content as that of the last training is never trained on again.
    """
    if now.content == last.content or now.at - last.at < policy.least_days * DAY_S:
        return None
    if policy.on_drift and now.drifted:
        return "drift"
    if policy.decay is not None and now.decay is not None and now.decay >= policy.decay:
        return f"live NDCG@10 {now.decay:.0%} below the holdout's"
    if policy.every is not None and _period(now.at, policy.every) != _period(last.at, policy.every):
        return f"a new {policy.every}"
    if policy.volume is not None and last.rows is not None and now.rows - last.rows >= policy.volume * last.rows:
        return f"{now.rows - last.rows:,} new events"
    if policy.most_days is not None and now.at - last.at >= policy.most_days * DAY_S:
        return f"{policy.most_days:g} days since the last training"
    return None


def foreseen(policy: PolicySettings, last: Standing, now: Facts) -> tuple[int, str] | None:
    """Return when the policy will retrain if events go on arriving as they have since the last training, and why.

    Drift and decay cannot be foreseen.

    Returns:
        UTC seconds from now on, and the reason. None if neither time nor volume will lead to a retraining.
    """
    found: list[tuple[float, str]] = []
    if policy.every is not None:
        found.append((_next_start(last.at, policy.every), f"a new {policy.every}"))
    if policy.most_days is not None:
        found.append((last.at + policy.most_days * DAY_S, f"{policy.most_days:g} days since the last training"))
    if policy.volume is not None and last.rows is not None and now.at > last.at and now.rows > last.rows:
        wanted = policy.volume * last.rows
        found.append((last.at + wanted * (now.at - last.at) / (now.rows - last.rows), f"about {wanted:,.0f} new events"))
    if not found:
        return None
    when, why = min(found)
    return max(round(when), round(last.at + policy.least_days * DAY_S), now.at), why


def described(policy: PolicySettings) -> str:
    """Describe the policy in words."""
    causes = [
        *(["on drift"] if policy.on_drift else []),
        *([f"if live quality falls by {policy.decay:.0%}"] if policy.decay is not None else []),
        *([f"each {policy.every}"] if policy.every else []),
        *([f"after {policy.volume:.0%} new events"] if policy.volume is not None else []),
        *([f"after {policy.most_days:g} days"] if policy.most_days is not None else []),
    ]
    said = " or ".join(causes) or "never"
    return f"{said}, at least {policy.least_days:g} days apart" if causes and policy.least_days else said


def period_start(at: int, every: str) -> int:
    """Return the first second of the calendar week (from Monday) or month that contains `at`, in UTC seconds."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = day.replace(day=1) if every == "month" else day - timedelta(days=day.weekday())
    return int(first.timestamp())


def _next_start(at: int, every: str) -> int:
    """Return the start of the next week or month after the one that contains the last second before `at`."""
    first = period_start(at - 1, every)
    return period_start(first + (32 if every == "month" else 7) * DAY_S, every)


def _period(end: int, every: str) -> int:
    """Return the week or month that contains the last second before `end`."""
    return period_start(end - 1, every)
