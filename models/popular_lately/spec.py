"""What the registry of kinds must know about popular lately. It needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter

__all__ = ["SPEC", "PopularLatelySettings"]


class PopularLatelySettings(Settings):
    """Ranks the items with the most recent events first. Only events before the time of a request count."""

    counting: Literal["half_life", "window"] = "half_life"
    """How age matters: an event counts half after each further `days`, or fully for `days` and then not at all."""
    days: float = Field(default=30.0, gt=0)
    """Half-life of an event, or length of the window. It is counted back from the newest event before the request."""


SPEC = ModelSpec(
    kind="popular_lately",
    settings=PopularLatelySettings,
    recommender="models.popular_lately:PopularLately",
    label="popular lately",
    colour="#9aa3a8",
    seeded=False,
    space={"counting": Parameter(choices=("half_life", "window")), "days": Parameter(low=0.05, high=1000.0, log=True)},
)
