"""Decides what becomes of a rollout, as a function of its entry in the log, the checks and the time.

So whoever watches can stop at any moment, and the next one decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from configs.settings import RolloutSettings
from infra.registry import Promotion, Rollout
from tasks.rollout.comparison import Check, Evidence

__all__ = ["Move", "Standing", "Worker", "decide", "rejected"]

Move = Literal["wait", "advance", "ask", "return"]
"""`ask`: a person must approve the last stage."""


@dataclass(frozen=True)
class Worker:
    """A worker that has measured something in the stage."""

    name: str
    requests: tuple[int, int]  # of users of the old version, and of the new one
    refused: str  # why it does not serve the new version; empty if it does, or if nobody asked for it yet


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands, and what it does next."""

    entry: Promotion  # the newest of the log
    rollout: Rollout
    settings: RolloutSettings
    checks: list[Check]
    requests: tuple[int, int]  # of users of the old version, and of the new one, in this stage
    workers: list[Worker]  # by name
    move: Move
    why: str
    now: int  # UTC seconds

    @property
    def ends(self) -> int:
        """UTC seconds at which the stage ends."""
        return self.rollout.since + self.settings.bake_s

    @property
    def part(self) -> float:
        """The part of the stage that has passed, between 0 and 1."""
        return min(max((self.now - self.rollout.since) / self.settings.bake_s, 0.0), 1.0)

    @property
    def unknown(self) -> list[str]:
        """What is not known, each with the reason."""
        return [f"{check.name} ({check.said})" for check in self.checks if check.verdict == "not known"]


def decide(entry: Promotion, rollout: Rollout, evidence: Evidence, checks: list[Check], now: int) -> Standing:
    """Decide on the next step of a rollout.

    It returns as soon as a check shows that the new version is worse, and at the end of a stage if a server cannot serve it. At the
    end of a stage, what is known decides.

    Args:
        entry: Newest entry of the log.
        rollout: Its rollout, which is under way.
        evidence: What is known of its stage.
        checks: The comparison of both versions.
        now: UTC seconds.
    """
    settings = RolloutSettings.model_validate(rollout.settings)
    move, why = _next(entry, rollout, evidence, checks, settings, now)
    requests = (evidence.requests[0], evidence.requests[1])
    workers = [Worker(name, asked, evidence.refused.get(name, "")) for name, asked in sorted(evidence.workers.items())]
    return Standing(entry, rollout, settings, checks, requests, workers, move, why, now)


def _next(
    entry: Promotion, rollout: Rollout, evidence: Evidence, checks: list[Check], settings: RolloutSettings, now: int
) -> tuple[Move, str]:
    stage = f"at {rollout.share:.0%} of the users"
    worse = [check for check in checks if check.verdict == "worse"]
    if worse:
        return "return", f"worse {stage}: {'; '.join(f'{check.name}: {check.said}' for check in worse)}"
    if now < rollout.since:
        return "wait", f"servers begin in {rollout.since - now} s"
    if (left := rollout.since + settings.bake_s - now) > 0:
        return "wait", f"nothing worse {stage}; {left} s are left"
    if evidence.refused:
        worker, reason = next(iter(sorted(evidence.refused.items())))
        return "return", f"{len(evidence.refused)} of {len(evidence.workers)} workers do not serve it; {worker}: {reason}"
    if entry.frozen is not None:
        return "wait", f"the model is frozen: {entry.frozen.reason}"
    known = [check.name for check in checks if check.verdict == "not worse"]
    unknown = [check.name for check in checks if check.verdict == "not known"]
    said = f"nothing worse in {settings.bake_s} s {stage}. Compared: {', '.join(known) or 'nothing'}."
    said += f" Not known: {', '.join(unknown)}." if unknown else ""
    if settings.approval == "manual" and rollout.stage == len(rollout.stages) - 2:
        return "ask", said
    return "advance", said


def rejected(standing: Standing, who: str, note: str = "") -> Standing:
    """Return the standing of a rollout that a person has rejected: it returns."""
    return replace(standing, move="return", why=f"{who} rejected it{f': {note}' if note else ''}")
