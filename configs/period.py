"""A period of time in settings."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, model_validator

from configs.base import Settings

__all__ = ["Period", "meet"]


class Period(Settings):
    """A period with an inclusive start and an exclusive end. Times need a time zone: `2026-12-01T00:00:00Z`."""

    start: AwareDatetime | None = None
    """First instant of the period. If empty, the period has no start."""
    end: AwareDatetime | None = None
    """First instant after the period. If empty, the period has no end."""

    def holds(self, now: int) -> bool:
        """Whether `now` (UTC seconds) is inside the period."""
        return (self.start is None or now >= self.start.timestamp()) and (self.end is None or now < self.end.timestamp())

    @property
    def always(self) -> bool:
        return self.start is None and self.end is None

    @model_validator(mode="after")
    def _runs_forward(self) -> Period:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"the end ({self.end.isoformat()}) must come after the start ({self.start.isoformat()})")
        return self


def meet(one: Period, other: Period) -> bool:
    """Whether the two periods overlap."""

    def before(end: datetime | None, start: datetime | None) -> bool:
        return end is not None and start is not None and end <= start

    return not before(one.end, other.start) and not before(other.end, one.start)
