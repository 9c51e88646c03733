"""Settings of statistical tests, which the gate, comparisons and replays share."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from configs.base import Settings, in_order

__all__ = ["HourlyPrice", "StatisticsSettings", "least_resamples"]

HourlyPrice = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Price in USD of one machine hour."""


def least_resamples(alpha: float, tests: int) -> int:
    """Return the least number of resamples with which any of `tests` tests can be significant.

    The least p-value of a resampling test is 1 / (resamples + 1), and Holm's correction multiplies it by the number of tests in its
    first step. With fewer resamples than this, no difference is significant at `alpha`, however large it is. Every place that
    corrects resampled p-values with `models.evaluation.holm` needs at least this many.

    Args:
        alpha: Significance level of all tests together, between 0 and 1.
        tests: Number of tests that share it, at least 1.

    Raises:
        ValueError: alpha or tests is out of range.
    """
    if not 0 < alpha < 1 or tests < 1:
        raise ValueError(f"alpha must be between 0 and 1 and tests at least 1, got {alpha} and {tests}")
    resamples = max(1, math.ceil(tests / alpha) - 2)
    while tests * (1 / (resamples + 1)) > alpha:  # compared as `holm` compares, because of rounding
        resamples += 1
    return resamples


def _statistics_last(schema: dict[str, Any]) -> None:
    """Move the inherited fields to the end of the form, after those that say what is tested."""
    properties = schema["properties"]
    for name in StatisticsSettings.model_fields:
        properties[name] = properties.pop(name)
    in_order(schema)


class StatisticsSettings(Settings):
    """How differences are tested: a bootstrap, at one significance level."""

    model_config = ConfigDict(json_schema_extra=_statistics_last)

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level. Tests that belong together share it (Holm's correction)."""
    resamples: int = Field(default=10_000, ge=100)
    """Number of bootstrap resamples."""
    bootstrap_seed: int = Field(default=17, ge=0)
    """Seed of the bootstrap, and of samples that are drawn for a check."""
