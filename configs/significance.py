"""Settings of statistical tests, which the gate, comparisons and replays share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from configs.base import Settings, in_order

__all__ = ["HourlyPrice", "StatisticsSettings"]

HourlyPrice = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Price in USD of one machine hour."""


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
