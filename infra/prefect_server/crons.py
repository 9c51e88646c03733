"""Cron expressions that a schedule of the Prefect server can use."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["cron_fault"]


def cron_fault(cron: str) -> str | None:
    """Return why a schedule cannot use the expression, or None if it can."""
    # Prefect has no public function that tells the next time of an expression.
    from prefect._vendor.croniter.croniter import croniter
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValueError:
        fields = 0
    else:
        fields = 5 if cron.strip().startswith("@") else len(cron.split())
    if fields != 5:  # Prefect takes a sixth field, which counts seconds
        return f"{cron!r} is not a cron expression of five fields (minute, hour, day, month, weekday), such as '0 4 * * 1'"
    try:
        croniter(cron, datetime.now(UTC)).get_next()  # type: ignore[no-untyped-call]
    except ValueError:
        return f"{cron!r} never occurs: no month that it names has that day"
    return None
