"""Watches a rollout: reads the log and what servers measured, decides, and writes the step into the log.

Every step is decided against the newest entry of the log and written directly after it. So it does not matter who watches, how often, or
where one of them was killed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime

from configs.errors import AlreadyExistsError, FrozenError
from configs.settings import RolloutSettings
from infra.measurements import forget_measured, measured_keys, read_measured, user_number
from infra.registry import ModelRegistry, Promotion, abort_rollout, advance_rollout
from infra.storage import Store
from tasks.best_effort import LOG, attempt
from tasks.rollout.comparison import Evidence, compare_versions
from tasks.rollout.deciding import Standing, decide
from tasks.rollout.page import BADGES, render_html

__all__ = ["Outcomes", "Watch", "page_key"]

Outcomes = Callable[[int], Iterable[tuple[int | str, int]] | None]
"""Returns users with the times of what they did since a time, or None if nobody reports outcomes."""


class Watch:
    """Watches the rollout of one model. What servers measured is read once, file by file."""

    def __init__(
        self,
        store: Store,
        name: str,
        controls: int,
        outcomes: Outcomes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin to watch.

        Args:
            store: Store of the log.
            name: Name of the model.
            controls: Measured users of the old version for each user of the new one.
            outcomes: What users did.
            clock: UTC seconds.
        """
        self._store, self._name, self._controls, self._clock = store, name, controls, clock
        self._outcomes = outcomes
        self._entry = 0
        self._evidence, self._read = Evidence(), set[str]()

    def look(self) -> Standing | None:
        """Return where the rollout stands, or None if none is under way. Nothing is changed.

        Raises:
            StoreError: The log or a file cannot be read.
        """
        entry = ModelRegistry(self._store).newest(self._name)
        rollout = entry.rolling_out if entry is not None else None
        if entry is None or rollout is None:
            return None
        if rollout.entry != self._entry:
            self._entry, self._evidence, self._read = rollout.entry, Evidence(), set()
        new = [key for key in measured_keys(self._store, self._name, rollout.entry) if key not in self._read]
        self._evidence.add(read_measured(self._store, new))
        self._read.update(new)
        outcomes = self._outcomes(rollout.since)
        self._evidence.outcomes = None if outcomes is None else _last_outcomes(outcomes)
        now = int(self._clock())
        settings = RolloutSettings.model_validate(rollout.settings)
        measured = min(1.0, (1 + self._controls) * rollout.share)
        return decide(entry, rollout, self._evidence, compare_versions(self._evidence, rollout, settings, measured), now)

    def step(self, standing: Standing, approved: str = "") -> Promotion | None:
        """Write what was decided into the log, and the page. Return the new entry, or None if there is none.

        Args:
            standing: What was decided.
            approved: Who approved the last stage, if somebody did.

        Raises:
            StoreError: The store failed. The step can be repeated.
        """
        now = datetime.fromtimestamp(standing.now, UTC)
        self.write_page(standing)
        advances = standing.move == "advance" or (standing.move == "ask" and approved)
        try:
            if standing.move == "return":
                entry = abort_rollout(self._store, standing.entry, reason=standing.why, now=now)
            elif advances:
                why = f"{standing.why} Approved by {approved}." if approved else standing.why
                entry = advance_rollout(self._store, standing.entry, reason=why, now=now)
            else:
                return None
        except (AlreadyExistsError, FrozenError):
            return None  # somebody else was first: the next look sees the entry
        forget_measured(self._store, self._name, standing.rollout.entry)
        return entry

    def write_page(self, standing: Standing) -> None:
        """Store the page of the stage. It replaces the one of the last look; nothing depends on it."""
        attempt("The page of the rollout", self._write_page, LOG, standing)

    def _write_page(self, standing: Standing) -> None:
        key = page_key(standing)
        self._store.put(key, render_html(standing))
        figures = {"said": BADGES[standing.move], "why": standing.why, "checks": [asdict(check) for check in standing.checks]}
        self._store.put(key.replace(".html", ".json"), json.dumps(figures, indent=2).encode())


def page_key(standing: Standing) -> str:
    """Return the key of the page of a stage."""
    return f"rollouts/{standing.entry.name}/{standing.rollout.entry:08d}/report.html"


def _last_outcomes(outcomes: Iterable[tuple[int | str, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for user, at in sorted(outcomes, key=lambda each: each[1]):
        found[user_number(user)] = at
    return found
