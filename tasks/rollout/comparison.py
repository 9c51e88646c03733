"""Compares the two versions of a rollout by what servers have measured so far, with tests that hold however often one looks.

What happens to single users is judged by the assignment alone: if the version makes no difference, each user with, for example, a failed
request was assigned to the new version with the probability of its share, however rare failures are and however users behave. Means
are judged by confidence sequences over users, each of whom counts once. All checks of all stages share one significance level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from configs.settings import RolloutSettings
from infra.measurements import KINDS, Agreement, Event, FirstAnswer, Measured
from infra.registry import Rollout
from models.evaluation import difference_path, mean_bounds, share_p_values

__all__ = ["CHECKS", "Check", "Evidence", "compare_versions"]

CHECKS = ("errors", "empty lists", "repeated lists", "CPU time", "variety", "agreement", "outcomes")
NAMES = dict(zip(KINDS, CHECKS, strict=False))
HAPPENED = {
    "errors": "users whose request failed",
    "empty lists": "users who got an empty list",
    "repeated lists": "users who got the same list after new events, or an item twice in one",
    "outcomes": "users who did something after they asked",
}
TUNED = 2_000  # users at which the intervals of means are tightest
LONGEST_S = 0.25  # of CPU time that one answer counts with, so that a single pause of the machine decides nothing
Verdict = Literal["worse", "not worse", "not known"]


@dataclass
class Evidence:
    """What is known of a stage: everything that its files say, and who did something later.

    A user counts once in each table, by the first row. Several servers may have answered the same user.
    """

    events: dict[str, dict[int, Event]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    answers: dict[int, FirstAnswer] = field(default_factory=dict)
    agreements: dict[int, Agreement] = field(default_factory=dict)
    requests: list[int] = field(default_factory=lambda: [0, 0])  # of users of the old version, and of the new one
    refused: dict[str, str] = field(default_factory=dict)  # worker -> why it does not serve the new version
    workers: dict[str, tuple[int, int]] = field(default_factory=dict)  # the same requests, of each worker
    outcomes: dict[int, int] | None = None  # user -> time of an outcome; None if nobody reports any

    def add(self, measured: Iterable[Measured]) -> None:
        """Take in what workers measured."""
        for each in measured:
            old, new = self.workers.get(each.worker, (0, 0))
            self.workers[each.worker] = (old + each.requests[0], new + each.requests[1])
            self.requests = [before + more for before, more in zip(self.requests, each.requests, strict=True)]
            for kind, events in each.events.items():
                _first(self.events.setdefault(kind, {}), events)
            _first(self.answers, each.answers)
            _first(self.agreements, each.agreements)
            if each.refused:
                self.refused[each.worker] = each.refused
            elif each.requests[1]:
                self.refused.pop(each.worker, None)  # it serves the new version by now


@dataclass(frozen=True)
class Check:
    """One comparison of the two versions."""

    name: str
    verdict: Verdict
    old: float | None  # figure of the old version; None if unknown
    new: float | None
    users: tuple[int, int]  # that the figures are of: with the old version, and with the new one
    said: str  # what was found, in a sentence
    at: int | None = None  # UTC seconds of the user with whom it was shown; None if it was not


def compare_versions(evidence: Evidence, rollout: Rollout, settings: RolloutSettings, measured_share: float) -> list[Check]:
    """Return the checks of a rollout's current stage, in the order of CHECKS.

    Args:
        evidence: What is known.
        rollout: The rollout.
        settings: What is tolerated.
        measured_share: Share of all users whose answers are measured, among them all users of the new version.
    """
    alpha = settings.alpha / (len(CHECKS) * (len(rollout.stages) - 1))
    happened = [
        _happened(NAMES[kind], [*evidence.events[kind].values()], rollout.share, alpha, asked=sum(evidence.requests))
        for kind in KINDS
    ]
    answers = sorted(evidence.answers.values(), key=lambda row: (row.time, row.user))
    timed = [row for row in answers if row.cpu_s is not None]
    paired = [row for row in answers if row.alike is not None]
    cpu = np.minimum([row.cpu_s or 0.0 for row in timed], LONGEST_S)
    alike = np.array([row.alike or 0.0 for row in paired])
    slower = _difference("CPU time", timed, cpu, settings.max_slower_ms / 1000, (alpha, settings.min_users))
    variety = _difference("variety", paired, alike, settings.max_alike, (alpha, settings.min_users))
    return [
        *happened,
        slower,
        variety,
        _agreement(sorted(evidence.agreements.values(), key=lambda row: (row.time, row.user)), settings, alpha),
        _outcomes(evidence, rollout.share / measured_share, alpha),
    ]


def _happened(name: str, rows: Sequence[Event], share: float, alpha: float, *, asked: int, more: bool = True) -> Check:
    """Judge whether something happened to more (or fewer) users of the new version than its share of the users explains."""
    rows = sorted(rows, key=lambda row: (row.time, row.user))
    new = sum(row.new for row in rows)
    users = (len(rows) - new, new)
    if not asked or (not rows and not more):
        return Check(name, "not known", None, None, users, "nobody asked" if not asked else "no outcomes came")
    p = share_p_values(np.array([row.new for row in rows], dtype=bool), share, more=more)
    place = _first_true(p <= alpha)
    said = f"{new:,} of {len(rows):,} {HAPPENED[name]} had the new version; {share:.1%} are expected"
    expected, found = (None, None) if not rows else (share, new / len(rows))
    return Check(name, "not worse" if place is None else "worse", expected, found, users, said, _time(rows, place))


def _difference(
    name: str, rows: Sequence[FirstAnswer], values: npt.NDArray[np.float64], margin: float, test: tuple[float, int]
) -> Check:
    """Judge whether the mean of the new version exceeds that of the old one by more than a margin."""
    alpha, least = test
    treated = np.array([row.new for row in rows], dtype=bool)
    users = (int((~treated).sum()), int(treated.sum()))
    if min(users) < least:
        return Check(
            name,
            "not known",
            None,
            None,
            users,
            f"too few users: {users[0]:,} with the old version, {users[1]:,} with the new one",
        )
    path = difference_path(values, treated, alpha=alpha, tuned_users=TUNED, least=least)
    place = _first_true(path.low > margin)
    old, new = float(values[~treated].mean()), float(values[treated].mean())
    if name == "CPU time":
        said = f"an answer took {1000 * new:.1f} ms of CPU time instead of {1000 * old:.1f} ms; {1000 * margin:g} ms more are allowed"
    else:
        said = (
            f"the lists of two users had {new:.0%} of their items in common instead of {old:.0%}; {margin:.0%} more are allowed"
        )
    return Check(name, "not worse" if place is None else "worse", old, new, users, said, _time(rows, place))


def _agreement(rows: Sequence[Agreement], settings: RolloutSettings, alpha: float) -> Check:
    """Judge whether the new version has too little in common with the old one."""
    users = (len(rows), len(rows))
    if len(rows) < settings.min_users:
        return Check("agreement", "not known", None, None, users, f"too few users: both versions answered {len(rows):,}")
    values = np.array([row.share for row in rows])
    _, high = mean_bounds(values, alpha=alpha, tuned=TUNED, least=settings.min_users)
    if not np.isfinite(high[-1]):  # all lists agree alike, so their mean needs no interval
        high[settings.min_users - 1 :] = values.mean()
    place = _first_true(high < settings.min_agreement)
    said = f"the old version would have shown {values.mean():.0%} of the new lists; at least {settings.min_agreement:.0%} are expected"
    return Check(
        "agreement", "not worse" if place is None else "worse", None, float(values.mean()), users, said, _time(rows, place)
    )


def _outcomes(evidence: Evidence, share: float, alpha: float) -> Check:
    """Judge whether fewer users of the new version did something than its share of the measured users explains."""
    outcomes = evidence.outcomes
    if outcomes is None:
        return Check("outcomes", "not known", None, None, (0, 0), "nobody reports outcomes")
    rows = [
        Event(user, at, evidence.answers[user].new)
        for user, at in outcomes.items()
        if user in evidence.answers and at >= evidence.answers[user].time
    ]
    return _happened("outcomes", rows, share, alpha, asked=sum(evidence.requests), more=False)


def _first(
    table: dict[int, Event] | dict[int, FirstAnswer] | dict[int, Agreement], rows: Iterable[Event | FirstAnswer | Agreement]
) -> None:
    known: dict[int, Event | FirstAnswer | Agreement] = table  # type: ignore[assignment]
    for row in rows:
        before = known.get(row.user)
        if before is None or row.time < before.time:
            known[row.user] = row


def _first_true(found: npt.NDArray[np.bool_]) -> int | None:
    return int(found.argmax()) if found.any() else None


def _time(rows: Sequence[Event | FirstAnswer | Agreement], place: int | None) -> int | None:
    return None if place is None else rows[place].time
