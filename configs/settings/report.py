"""The page of the recommendations and the value of a rank."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings, Share

__all__ = ["ReportSettings", "ValueSettings"]


class ReportSettings(Settings):
    """Evidently's page of the recommendations. It is informational and affects no decision."""

    evidently: bool = True
    """Create `recsys_report.html` (3.8 MB) next to the version. It takes seconds on any dataset, because it shows a sample."""
    requests: int = Field(default=1000, ge=1)
    """Number of test requests on the page, sampled at random."""
    train_events: int = Field(default=1_000_000, ge=1)
    """Maximum number of train events from which the page computes popularity. If there are more, they are sampled at random."""


class ValueSettings(Settings):
    """Assumptions about the value of a rank. None of them is measured here. Replace them with your own figures.

    The defaults are round numbers of a plausible size, so that the table is readable before you have your own.
    """

    positions: int = Field(default=10, ge=1)
    """Number of items that a request shows."""
    click_through: Share = 0.3
    """Probability that a relevant item at rank 1 is clicked."""
    patience: Share = 0.8
    """Probability that a user who has looked at one position also looks at the next. The click-through at rank r is
    click_through x patience ^ (r - 1). It is the persistence of rank-biased precision (Moffat and Zobel, TOIS 2008)."""
    click_through_at: tuple[Share, ...] = ()
    """Measured click-through of a relevant item at rank 1, 2, ... If set, it replaces the three settings above."""
    watch_rate: Share = 0.5
    """Share of clicks that lead to a watch, or to another action (`data.nouns.action`), such as a purchase."""
    revenue_per_watch: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Revenue of one watch, or of one other action, in `currency`."""
    currency: str = "USD"
    """Name of the currency, as shown."""
    requests_per_month: int = Field(default=1_000_000, ge=0)
    """Number of requests that the monthly value is computed for."""

    @property
    def click_through_by_position(self) -> tuple[float, ...]:
        """Click-through of a relevant item at each shown rank, starting with rank 1."""
        return self.click_through_at or tuple(self.click_through * self.patience**place for place in range(self.positions))
