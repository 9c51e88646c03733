"""Lives through the year: delivers, jumps to whatever is scheduled next, kills, and notes what happened."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from benchmarks.year.installation import MODEL, ZONE, Installation, wait_until
from benchmarks.year.quality import LiveQuality, champion_at, events_of
from benchmarks.year.world import Calendar, World, write_delivery
from configs.settings import RetrainSettings
from infra.registry import ModelRegistry

__all__ = ["HISTORY_DAYS", "KILLS", "Year"]

HISTORY_DAYS = 56  # of events before the first day
KILLS = (
    "a run",
    "the Prefect server",
    "the worker, between taking a run and starting it",
    "PostgreSQL",
    "the worker and its run",
)
DAILY = ("etl/etl", "monitor/monitor", "housekeeping/housekeeping")
GRACE_S = 600.0  # of prefect.yaml: for which a run keeps its place while its machine starts
BEFORE_S = 0.5  # the clock is set so much before a scheduled time
START_S, LOST_S = 1830.0, 130.0  # after which a run that did not start, or that sends no heartbeat, counts as crashed
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
DELIVERED = "00:40"
LATE_S = 1200.0  # a run that is still active after so many seconds of the real clock


@dataclass
class Year:
    """A year under way, and what was noted."""

    place: Installation
    calendar: Calendar
    world: World = field(default_factory=World)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # of deployments, by id
    sizes: list[dict[str, float]] = field(default_factory=list)
    kills: list[dict[str, Any]] = field(default_factory=list)
    _days: list[pd.DataFrame] = field(default_factory=list)  # events of each day, from the history on
    _arrived: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = RetrainSettings.model_validate(self.place.retraining)
        self.quality = LiveQuality(settings.challenger, settings.models)

    def begin(self) -> None:
        """Deliver the history, set the server up, and train the first champion."""
        for number in range(-HISTORY_DAYS, 0):
            self._live(number)
        history = pd.concat(self._days)
        self._deliver("history.csv", history, self.place.clock.now() - 3600)
        self._arrived = [True] * HISTORY_DAYS
        self.place.set_up()
        for name in ("etl/etl", "retrain/retrain"):
            run = self.place.start(name)
            wait_until(lambda run=run: self.place.state_of(run)["type"] in ENDED, name, LATE_S)  # type: ignore[misc]
            if (state := self.place.state_of(run))["type"] != "COMPLETED":
                raise RuntimeError(f"The first run of {name} ended as {state['name']}: {state['message']}")
        if ModelRegistry(self.place.store()).champion(MODEL) is None:
            raise RuntimeError("The first model was not promoted.")

    def live_day(self, number: int) -> None:
        """Live through a day, and note what it showed."""
        self._arrive(number)
        self.quality.train(number, self._known())
        kill = KILLS[number // 7 % len(KILLS)] if number % 7 == number // 7 % 7 else None
        midnight = self._at(number + 1, "00:00")
        while (moment := self.place.next_scheduled()) < midnight:
            self._go(moment, kill)
            kill = None
        self._live(number)
        self._note(number)

    # The world and its producer

    def _live(self, number: int) -> None:
        if number % 7 == 0:
            self.world.next_week()
        self._days.append(events_of(self.world.events(self.calendar.day(number))))
        if number >= 0:
            self._arrived.append(False)

    def _arrive(self, number: int) -> None:
        """Deliver the events of yesterday, unless the feed is silent, and repair bad deliveries on the day after the last."""
        before, at = number - 1, self._at(number, DELIVERED)
        if number == 0 or before in self.calendar.silent:
            return
        bad = before in self.calendar.bad
        self._deliver(f"{self.calendar.day(before)}.csv", self._days[HISTORY_DAYS + before], at, bad=bad)
        self._arrived[HISTORY_DAYS + before] = not bad
        if before == self.calendar.bad.stop:
            for day in self.calendar.bad:
                self._deliver(f"{self.calendar.day(day)}.csv", self._days[HISTORY_DAYS + day], at)
                self._arrived[HISTORY_DAYS + day] = True

    def _deliver(self, name: str, events: pd.DataFrame, at: float, *, bad: bool = False) -> None:
        path = self.place.zone / name
        write_delivery(path, events.rename(columns={"user_id": "userId", "item_id": "movieId"}), bad=bad)
        os.utime(path, (at, at))

    def _known(self) -> pd.DataFrame:
        return pd.concat([events for events, arrived in zip(self._days, self._arrived, strict=True) if arrived])

    # The clock

    def _at(self, number: int, time_of_day: str) -> float:
        day = self.calendar.day(number)
        return datetime.fromisoformat(f"{day}T{time_of_day}").replace(tzinfo=ZoneInfo(ZONE)).timestamp()

    def _go(self, moment: float, kill: str | None) -> None:
        """Set the clock to a scheduled time, and wait until everything that it starts has ended."""
        self.place.clock.date_files([self.place.store_folder, self.place.work_folder])
        self.place.clock.set_to(max(moment - BEFORE_S, self.place.clock.now()))
        if kill is not None:
            self._kill(kill, moment)
        self._settle(moment)
        for run in self.place.runs(moment - 1, *ENDED):
            self.runs[run["id"]] = run

    def _settle(self, moment: float) -> None:
        def is_quiet() -> bool:
            now = datetime.fromtimestamp(self.place.clock.now() + 5, UTC).isoformat()
            active = self.place.runs(moment - 7 * 86_400, "RUNNING", "PENDING", "CANCELLING", "PAUSED", "SCHEDULED")
            return not [run for run in active if run["state_type"] != "SCHEDULED" or run["expected_start_time"] < now]

        for _ in range(2):  # an automation may start a run after another one has ended
            wait_until(is_quiet, f"the end of the runs of {datetime.fromtimestamp(moment, UTC)}", LATE_S)
            time.sleep(0.4)
        if self._is_due(moment):
            wait_until(lambda: self._retrained(moment), f"the retraining of {datetime.fromtimestamp(moment, UTC)}", LATE_S)
            wait_until(is_quiet, "the end of the retraining", LATE_S)

    def _is_due(self, moment: float) -> bool:
        return any(
            run["deployment_id"] == self.place.id_of("monitor/monitor") and "A retraining starts" in run["state"]["message"]
            for run in self.place.runs(moment - 1, "COMPLETED")
        )

    def _retrained(self, moment: float) -> bool:
        return any(run["deployment_id"] == self.place.id_of("retrain/retrain") for run in self.place.runs(moment - 1))

    # What happens to it

    def _kill(self, what: str, moment: float) -> None:
        def active(*states: str) -> list[dict[str, Any]]:
            return self.place.runs(moment - 1, *states)

        stopped = time.monotonic()
        if what == "the worker, between taking a run and starting it":
            with suppress(RuntimeError):  # it has started already
                wait_until(lambda: active("PENDING"), "a run that a worker has taken", 60)
        else:
            wait_until(lambda: active("RUNNING", *ENDED), "a run", 300)
        hit = [run for run in active("PENDING", "RUNNING")]
        if what == "a run":
            self.place.kill_run()
        elif what == "PostgreSQL":
            self.place.kill("postgres")
            wait_until(self.place.answers, "the server, after PostgreSQL was killed")
        elif what == "the Prefect server":
            self.place.kill("prefect")
            wait_until(self.place.answers, "the server, after it was killed")
        else:
            self.place.kill("worker")
            states = {self.place.state_of(run["id"])["type"] for run in hit}
            self.place.clock.set_to(self.place.clock.now() + (START_S if "PENDING" in states else LOST_S))
            for run in hit:
                wait_until(lambda run=run: self.place.state_of(run["id"])["type"] in ENDED, "the crash of a lost run", LATE_S)  # type: ignore[misc]
        day = (datetime.fromtimestamp(moment, ZoneInfo(ZONE)).date() - self.calendar.start).days
        self.kills.append(
            {"what": what, "day": day, "hit": [run["name"] for run in hit], "away_s": round(time.monotonic() - stopped, 1)}
        )

    # What is noted

    def _note(self, number: int) -> None:
        """Note the quality of the day's champion and, each week, how large everything is."""
        store, since = self.place.store(), self._at(number, "00:00")
        if number not in self.calendar.silent:
            version = champion_at(store, self._at(number, "12:00"))
            assert version is not None
            self.quality.measure(number, store, version, pd.concat([self._known(), self._days[-1]]), int(since))
        if number % 7 == 6:
            self.sizes.append({"day": number, **self.place.sizes()})
