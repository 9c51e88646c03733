"""Measures the two versions of a rollout in one worker, answer by answer, in the event loop.

What happens to users (errors, empty and repeated lists) is noted for all of them, since it is rare. Of answers, the first of each user
counts: answers to one user resemble each other, and a comparison that took them for independent would find differences by chance. A
worker forgets what it noted with each stage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from configs.errors import RequestInvalidError, RequestRefusedError
from infra.measurements import Agreement, Event, FirstAnswer, Measured, user_number
from serving.engine import Answer, RecommendJob
from serving.rollout.sides import Underway, place_in

__all__ = ["Ask", "Measuring"]

MOST_USERS = 100_000  # of one stage, whose first answers or last lists one worker remembers
MOST_ANSWERS = 2_000  # in one file
MOST_EVENTS = 1_000  # of one kind in one file
ASKED = 5  # of the users with the new version, every fifth is answered by the old one too
TOP = 10  # items of a list that are compared
CLIENT_FAULTS = (RequestInvalidError, RequestRefusedError)
Row = TypeVar("Row", Event, FirstAnswer, Agreement)

Ask = Callable[[RecommendJob, Callable[[Answer | Exception], None]], None]
"""Lets the old version answer a job that nobody waits for, and calls back with the answer."""


class Measuring:
    """What one worker measures in one stage."""

    def __init__(self, underway: Underway, worker: str, ask: Ask, tolerance_s: int = 0) -> None:
        """Begin with nothing measured.

        Args:
            underway: The rollout.
            worker: Name of this worker.
            ask: Lets the old version answer, too.
            tolerance_s: Seconds by which a request's time may differ from the server's clock, if somebody sees the answer now.
        """
        self.underway = underway
        self._worker, self._ask, self._tolerance_s = worker, ask, tolerance_s
        self._now = Measured(worker)
        self._answered: set[int] = set()
        self._told: dict[str, set[int]] = {kind: set() for kind in self._now.events}
        self._lists: OrderedDict[int, tuple[int, int]] = OrderedDict()  # events and list of a user's last answer
        self._unpaired: dict[bool, set[int | str]] = {}  # the list of a user, by whether the version is the new one

    def observe(self, version: str, jobs: Mapping[int, RecommendJob], results: Mapping[int, object], cpu_s: float) -> None:
        """Note what one version answered to the jobs of a batch, by place. All answers together took `cpu_s` of CPU time."""
        if version not in (self.underway.version, self.underway.rollout.old):
            return  # an arm of an experiment
        computed = sum(not (isinstance(result, Answer) and result.cached) for result in results.values())
        for place, job in jobs.items():
            user = job.user if job.user_id is None else job.user_id
            if user is None or job.named or job.preview or job.time.is_hypothetical(self._tolerance_s):
                continue
            instead = job.assignment.canary != (version == self.underway.version)
            if not instead and job.time.server_now >= self.underway.rollout.since:
                self._note(job, user, results[place], cpu_s / max(computed, 1))

    def _note(self, job: RecommendJob, user: int | str, result: object, cpu_s: float) -> None:
        now, place = job.time.server_now, place_in(self.underway.version, user)
        if job.assignment.canary != (place < self.underway.rollout.share):
            return  # it was assigned in another stage
        number, new = user_number(user), job.assignment.canary
        self._now.requests[new] += 1
        if not isinstance(result, Answer):
            if not isinstance(result, CLIENT_FAULTS):
                self._happened("errors", number, now, new)
            return
        items = [item.item_id for item in result.items]
        if not items:
            self._happened("empty", number, now, new)
        elif len({*items}) < len(items) or self._is_stuck(number, result.events, items):
            self._happened("repeated", number, now, new)
        if number in self._answered or len(self._answered) >= MOST_USERS or place >= self.underway.measured_share:
            return
        self._answered.add(number)
        top = {*items[:TOP]}
        self._now.answers.append(FirstAnswer(number, now, new, None if result.cached else round(cpu_s, 6), self._alike(new, top)))
        if new and top and number % ASKED == 0:
            self._ask(job, partial(self._compare, number, now, top))

    def _is_stuck(self, number: int, events: int, items: list[int | str]) -> bool:
        """Return whether a user gets the list of the last time although there were events since."""
        shown = hash(tuple(items))
        before = self._lists.pop(number, None)
        self._lists[number] = events, shown
        if len(self._lists) > MOST_USERS:
            self._lists.popitem(last=False)
        return before is not None and before[0] < events and before[1] == shown

    def _alike(self, new: bool, top: set[int | str]) -> float | None:
        """Return the share of a list that the user before was shown too. Each list is in one pair at most, so pairs are independent."""
        if not top:
            return None
        before = self._unpaired.pop(new, None)
        if before is None:
            self._unpaired[new] = top
            return None
        return round(len(top & before) / min(len(top), len(before)), 4)

    def _compare(self, number: int, now: int, top: set[int | str], answer: Answer | Exception) -> None:
        if isinstance(answer, Answer) and answer.version == self.underway.rollout.old and answer.items:
            old = {item.item_id for item in answer.items[:TOP]}
            self._now.agreements.append(Agreement(number, now, round(len(top & old) / min(len(top), len(old)), 4)))

    def _happened(self, kind: str, number: int, now: int, new: bool) -> None:
        told = self._told[kind]
        if number not in told and len(told) < MOST_USERS:
            told.add(number)
            self._now.events[kind].append(Event(number, now, new))

    def take(self, refused: str = "") -> Measured | None:
        """Return what was measured since the last call, or None if nothing was. Call it in the event loop.

        If there is more than fits a file, users are left out by their numbers, and so by the same rule for both versions.
        """
        found, self._now = self._now, Measured(self._worker)
        found.refused = refused
        found.answers = _fitting(found.answers, MOST_ANSWERS)
        found.agreements = _fitting(found.agreements, MOST_ANSWERS)
        found.events = {kind: _fitting(events, MOST_EVENTS) for kind, events in found.events.items()}
        return found if refused or any(found.requests) or found.agreements else None


def _fitting(rows: list[Row], most: int) -> list[Row]:
    if len(rows) <= most:
        return rows
    bound = sorted(row.user for row in rows)[most]
    return [row for row in rows if row.user < bound]
