"""Cron expressions that a schedule of the Prefect server can use."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

__all__ = ["cron_fault"]


def cron_fault(cron: str) -> str | None:
    """Return why a schedule cannot use the expression, or None if it can."""
    from prefect.client.schemas.schedules import CronSchedule

    # Prefect has no public function that tells the next time of an expression.
    croniter: Any = import_module("prefect._vendor.croniter").croniter
    try:
        CronSchedule(cron=cron)
    except ValueError:
        fields = 0
    else:
        fields = 5 if cron.strip().startswith("@") else len(cron.split())
    if fields != 5:  # Prefect takes a sixth field, which counts seconds
        return f"{cron!r} is not a cron expression of five fields (minute, hour, day, month, weekday), such as '0 4 * * 1'"
    try:
        croniter(cron, datetime.now(UTC)).get_next()
    except ValueError:
        return f"{cron!r} never comes: no month that it names has that day"
    return None
