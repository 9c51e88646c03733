"""Decide when a policy retrains: pure rules over the facts known at the end of a slice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from configs.studies import PolicySettings

__all__ = ["Standing", "described", "due"]

DAY_S = 86_400


@dataclass(frozen=True)
class Standing:
    """A policy's last training, promoted or held."""

    at: int  # UTC seconds of the end of its slice
    rows: int  # events in its dataset
    content: str  # content id of its dataset


def due(policy: PolicySettings, last: Standing, *, end: int, rows: int, content: str, drifted: bool) -> str | None:
    """Return why the policy retrains at the end of a slice, or None if it does not.

    A dataset with the same content as that of the last training is never trained on again.

    Args:
        end: End of the slice in UTC seconds.
        rows: Events in the dataset.
        content: Content id of the dataset.
        drifted: Whether monitoring found drift in the slice.
    """
    if content == last.content or end - last.at < policy.least_days * DAY_S:
        return None
    if policy.on_drift and drifted:
        return "drift"
    if policy.every is not None and _period(end, policy.every) != _period(last.at, policy.every):
        return f"a new {policy.every}"
    if policy.volume is not None and rows - last.rows >= policy.volume * last.rows:
        return f"{rows - last.rows:,} new events"
    return None


def described(policy: PolicySettings) -> str:
    """Describe the policy in words."""
    causes = [
        *(["on drift"] if policy.on_drift else []),
        *([f"each {policy.every}"] if policy.every else []),
        *([f"after {policy.volume:.0%} new events"] if policy.volume is not None else []),
    ]
    said = " or ".join(causes) or "never"
    return f"{said}, at least {policy.least_days:g} days apart" if causes and policy.least_days else said


def _period(end: int, every: str) -> tuple[int, int]:
    """Return the year and the number of the week or month that contains the last second before `end`."""
    moment = datetime.fromtimestamp(end, UTC) - timedelta(seconds=1)
    if every == "month":
        return moment.year, moment.month
    return moment.isocalendar()[:2]
