"""Schedules fire once a day in every time zone, also when the clock changes, by the code of Prefect's own server."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from infra.prefect_server.deployments import read_prefect_file

EVERY = sorted(
    {each["cron"] for entry in read_prefect_file()[0] for each in entry.get("schedules", ()) if each["cron"].endswith("* * *")}
)
DAILY = [cron for cron in EVERY if cron.split()[1] != "*"]
# The days around both changes of the clock, and a leap day. Lord Howe's clock changes by half an hour.
CHANGES = {
    "Europe/Berlin": ("2028-03-26", "2028-10-29"),
    "America/New_York": ("2028-03-12", "2028-11-05"),
    "Australia/Lord_Howe": ("2028-04-02", "2028-10-01"),
    "Etc/UTC": ("2028-02-29", "2028-12-31"),
}


@pytest.mark.parametrize("cron", DAILY)
@pytest.mark.parametrize("zone", CHANGES)
def test_a_daily_schedule_fires_once_on_each_day(cron: str, zone: str) -> None:
    for change in CHANGES[zone]:
        first = date.fromisoformat(change) - timedelta(days=3)
        start = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(zone))
        found = asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(n=7, start=start.astimezone(UTC)))
        fired = Counter(each.astimezone(ZoneInfo(zone)).date() for each in found)
        assert fired == Counter({first + timedelta(days=number): 1 for number in range(7)})


def test_the_schedules_are_those_that_the_project_ships() -> None:
    assert len(DAILY) >= 2
