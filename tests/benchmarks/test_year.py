"""The pieces of the simulated year: the clock that processes see, the world, and the account of the schedules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.year.accounts import kept_schedules
from benchmarks.year.clock import Clock
from benchmarks.year.world import Calendar, World, write_delivery

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC).timestamp()
SEEN = """
import sys, time
for line in sys.stdin:
    began = time.monotonic()
    time.sleep(0.05)
    print(time.time(), time.monotonic() - began, flush=True)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_process_sees_each_jump_of_the_clock_and_measures_real_durations(tmp_path: Path) -> None:
    clock = Clock(tmp_path, NOW)
    command = [sys.executable, "-ISc", SEEN]
    with subprocess.Popen(
        command, env={**os.environ, **clock.environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for jump in (0.0, 86_400.0, 365 * 86_400.0):
            clock.set_to(NOW + jump)
            process.stdin.write("now\n")
            process.stdin.flush()
            seen, waited = map(float, process.stdout.readline().split())
            assert NOW + jump <= seen <= clock.now() and 0.05 <= waited < 60
        process.stdin.close()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_files_age_with_the_clock(tmp_path: Path) -> None:
    clock, old, new = Clock(tmp_path / "clock", NOW), tmp_path / "store" / "old", tmp_path / "store" / "new"
    old.parent.mkdir()
    old.write_text("")
    os.utime(old, (NOW - 1000, NOW - 1000))
    new.write_text("")
    clock.date_files([old.parent])
    assert old.stat().st_mtime == NOW - 1000 and abs(new.stat().st_mtime - clock.now()) < 60


def test_a_day_has_visits_of_some_users_who_never_repeat_an_item() -> None:
    world, calendar = World(seed=3), Calendar()
    days = [world.events(calendar.day(number)) for number in range(3)]
    found = pd.concat(days)
    assert not found.duplicated(["userId", "movieId"]).any()
    for number, events in enumerate(days):
        assert 300 < len(events) < 1500 and events["timestamp"].is_monotonic_increasing
        assert {datetime.fromtimestamp(at, UTC).date() for at in events["timestamp"]} == {calendar.day(number)}
    before = set(found["movieId"])
    world.next_week()
    assert max(world.events(date(2025, 3, 10))["movieId"]) > max(before)


def test_a_bad_delivery_has_three_of_ten_impossible_ratings(tmp_path: Path) -> None:
    events = World().events(Calendar().start)
    write_delivery(tmp_path / "bad.csv", events, bad=True)
    found = pd.read_csv(tmp_path / "bad.csv")
    assert np.isclose((found["rating"] == 77).mean(), 0.3, atol=0.01) and len(found) == len(events)


def run(
    deployment: str, expected: str, started: str | None, *, state: str = "COMPLETED", scheduled: bool = True
) -> dict[str, object]:
    return {
        "deployment_id": deployment,
        "expected_start_time": expected,
        "start_time": started,
        "state_type": state,
        "auto_scheduled": scheduled,
    }


def test_a_schedule_is_kept_if_its_run_or_the_one_that_takes_its_place_ends_by_itself() -> None:
    runs = [
        run("etl", "2025-03-03T00:30:00Z", "2025-03-03T00:30:05Z"),
        run("etl", "2025-03-04T00:30:00Z", None, state="CRASHED"),
        run("etl", "2025-03-04T00:50:00Z", "2025-03-04T00:50:30Z", scheduled=False),
        run("monitor", "2025-03-03T01:30:00Z", "2025-03-03T01:30:01Z"),
        run("monitor", "2025-03-04T01:30:00Z", None, state="CRASHED"),
    ]
    found = {
        (row["day"], row["name"]): (row["times"], row["late_s"])
        for row in kept_schedules(runs, {"etl": "etl", "monitor": "monitor"}, date(2025, 3, 3), 2)
    }
    assert found == {(0, "etl"): (1, 5.0), (1, "etl"): (1, 1230.0), (0, "monitor"): (1, 1.0), (1, "monitor"): (1, None)}
