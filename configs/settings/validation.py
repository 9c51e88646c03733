"""When rows are quarantined, and when they fail a run."""

from __future__ import annotations

from pydantic import Field

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
    """Highest valid rating."""
    earliest: int = 789_652_009
    """Earliest valid event time in UTC seconds. The default is the first MovieLens rating (1995-01-09)."""
    max_future_s: int = Field(default=86_400, ge=0)
    """Maximum number of seconds that an event, or the `updated_at` of a description, may be ahead of this machine's clock."""
