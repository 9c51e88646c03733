"""What the registry of kinds must know about popularity. It needs no torch."""

from __future__ import annotations

from configs.kinds import ModelSpec
from configs.settings import PopularitySettings

__all__ = ["SPEC"]

SPEC = ModelSpec(
    kind="popularity",
    settings=PopularitySettings,
    recommender="models.popularity:Popularity",
    serving="models.popularity:PopularityCounts",
    label="popularity",
    colour="#7a848b",
    seeded=False,
)
