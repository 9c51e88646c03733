"""When a policy retrains: pure rules over what is known when a slice has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from configs.replay import PolicySettings

__all__ = ["Standing", "described", "due"]

DAY_S = 86_400


@dataclass(frozen=True)
class Standing:
    """A policy's last training, promoted or held."""

    at: int  # UTC seconds of the end of its slice
    rows: int  # events of its dataset
    content: str  # what its dataset held


def due(policy: PolicySettings, last: Standing, *, end: int, rows: int, content: str, drifted: bool) -> str | None:
    """Why the policy retrains at `end` (UTC seconds) of a slice, on a dataset of `rows` events; None where it does not.

    A dataset that holds what the last training had is never trained on again, whatever else holds.
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
    """The policy in words."""
    causes = [
        *(["on drift"] if policy.on_drift else []),
        *([f"each {policy.every}"] if policy.every else []),
        *([f"after {policy.volume:.0%} new events"] if policy.volume is not None else []),
    ]
    said = " or ".join(causes) or "never"
    return f"{said}, {policy.least_days:g} days apart at least" if causes and policy.least_days else said


def _period(end: int, every: str) -> tuple[int, int]:
    """Year and number of the week or month that the last second before `end` lies in."""
    moment = datetime.fromtimestamp(end, UTC) - timedelta(seconds=1)
    if every == "month":
        return moment.year, moment.month
    return moment.isocalendar()[:2]
