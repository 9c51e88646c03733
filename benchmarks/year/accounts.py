"""What the year has shown: schedules that were kept or missed, runs that failed, and the figures of each four weeks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from benchmarks.year.days import DAILY, Year
from benchmarks.year.installation import ZONE

__all__ = ["account_of", "kept_schedules"]

PERIOD = 28  # days of a row


def account_of(year: Year, days: int) -> dict[str, Any]:
    """Return the rows of the table, and what holds for the whole year."""
    runs = _dated(year.runs.values(), year.calendar.start)
    kept = kept_schedules(runs, {year.place.id_of(name): name for name in DAILY}, year.calendar.start, days)
    weeks = year.quality.weeks()
    killed = {kill["day"] for kill in year.kills}
    rows = []
    for first in range(0, days, PERIOD):
        inside = [week for week in weeks if first <= week["week"] * 7 < first + PERIOD]
        mine = [each for each in kept if first <= each["day"] < first + PERIOD]
        sizes = [size for size in year.sizes if size["day"] < first + PERIOD]
        worst = min(inside, key=lambda week: week["share"], default=None)
        rows.append(
            {
                "from": str(year.calendar.day(first)),
                "champion": None if worst is None else worst["champion"],
                "share": None if worst is None else worst["share"],
                "runs": sum(first <= each["day"] < first + PERIOD for each in runs),
                "latest_s": _latest(each for each in mine if each["day"] not in killed),
                "latest_after_kill_s": _latest(each for each in mine if each["day"] in killed),
                "kills": sum(first <= day < first + PERIOD for day in killed),
                "database_mb": sizes[-1]["database_mb"] if sizes else 0.0,
                "stored_runs": sizes[-1]["runs"] if sizes else 0,
                "store_mb": sizes[-1]["store_mb"] if sizes else 0.0,
            }
        )
    return {
        "rows": rows,
        "missed": [each for each in kept if each["late_s"] is None or each["times"] != 1],
        "least_share": min((week["share"] for week in weeks), default=None),
        "failures": _failures(runs),
        "kills": year.kills,
        "weeks": weeks,
        "sizes": year.sizes,
    }


def kept_schedules(runs: Iterable[dict[str, Any]], names: Mapping[str, str], start: date, days: int) -> list[dict[str, Any]]:
    """Return, for each day and daily deployment, how often its schedule fired and how late a run began that ended by itself.

    Args:
        runs: Runs as the server tells them.
        names: Names of the daily deployments, by id.
        start: The first day.
        days: Number of days.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {
        (day, name): {"day": day, "name": name, "times": 0, "late_s": None} for day in range(days) for name in names.values()
    }
    scheduled: dict[tuple[int, str], float] = {}
    for run in sorted(_dated(runs, start), key=lambda run: float(run["expected"])):
        key = run["day"], names.get(run["deployment_id"], "")
        if key not in found:
            continue
        if run["auto_scheduled"]:
            found[key]["times"] += 1
            scheduled.setdefault(key, run["expected"])
        if key in scheduled and run["state_type"] in ("COMPLETED", "FAILED") and found[key]["late_s"] is None:
            found[key]["late_s"] = round(_moment(run["start_time"]) - scheduled[key], 1)
    return list(found.values())


def _failures(runs: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Return how runs ended that did not complete."""
    rows = [
        {"day": str(run["day"]), "state": run["state_name"], "run": run["name"], "message": (run["state"]["message"] or "")[:300]}
        for run in runs
        if run["state_type"] != "COMPLETED"
    ]
    return sorted(rows, key=lambda row: int(row["day"]))


def _dated(runs: Iterable[dict[str, Any]], start: date) -> list[dict[str, Any]]:
    """Return runs with the moment and the number of the day at which they were expected."""
    found = []
    for run in runs:
        expected = _moment(run["expected_start_time"])
        day = (datetime.fromtimestamp(expected, ZoneInfo(ZONE)).date() - start).days
        found.append({**run, "expected": expected, "day": day})
    return found


def _latest(rows: Iterable[dict[str, Any]]) -> float:
    return max((row["late_s"] for row in rows if row["late_s"] is not None), default=0.0)


def _moment(text: str) -> float:
    return float(pd.Timestamp(text).timestamp())
