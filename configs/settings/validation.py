"""When rows are quarantined, and when they fail a run."""

from __future__ import annotations

import time

from pydantic import Field, model_validator

from configs.base import Settings, Share

__all__ = ["ValidationSettings"]


class ValidationSettings(Settings):
    """When bad rows are quarantined, and when they fail the run."""

    max_quarantined_share: Share = 0.05
    """Maximum share of rows that may be quarantined. Above it, the run fails and nothing is stored."""
    min_rows: int = Field(default=1000, ge=1)
    """Minimum number of valid interactions in a dataset."""
    min_rating: float = 0.5
    """Lowest valid rating."""
    max_rating: float = 5.0
    """Highest valid rating. It must not be below min_rating."""
    earliest: int = Field(default=789_652_009, ge=-(2**33), le=2**33)
    """Earliest valid event time in UTC seconds. The default is the first MovieLens rating (1995-01-09)."""
    max_future_s: int = Field(default=86_400, ge=0)
    """Maximum number of seconds that an event, or the `updated_at` of a description, may be ahead of this machine's clock."""

    @model_validator(mode="after")
    def _some_row_is_valid(self) -> ValidationSettings:
        if self.min_rating > self.max_rating:
            raise ValueError(f"min_rating ({self.min_rating:g}) must not be above max_rating ({self.max_rating:g})")
        if self.earliest > time.time() + self.max_future_s:
            raise ValueError(
                f"earliest ({self.earliest}) lies in the future, so no event would be valid: give UTC seconds, such as 789652009"
            )
        return self
