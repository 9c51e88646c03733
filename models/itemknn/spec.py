"""What the registry of kinds must know about ItemKNN. It needs neither torch nor scipy."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter

__all__ = ["SPEC", "ItemKNNSettings"]


class ItemKNNSettings(Settings):
    """Item neighbours (Deshpande and Karypis 2004): items that many users have together with those of the user's history."""

    neighbours: int = Field(default=100, ge=1)
    """Number of most similar items that are kept for each item."""
    shrink: float = Field(default=10.0, ge=0)
    """Added to the denominator of the cosine, so that items with few users in common count less."""
    half_life_events: float = Field(default=0.0, ge=0)
    """Number of later events after which an event of the user's history counts half. 0: their number makes no difference."""
    half_life_s: float = Field(default=0.0, ge=0)
    """Seconds before the user's newest event at which an event of the history counts half. 0: time makes no difference."""


SPEC = ModelSpec(
    kind="itemknn",
    settings=ItemKNNSettings,
    recommender="models.itemknn:ItemKNN",
    label="ItemKNN",
    colour="#96703a",
    seeded=False,
    space={
        "neighbours": Parameter(low=5, high=500, log=True),
        "shrink": Parameter(low=0.0, high=200.0),
        "half_life_events": Parameter(choices=(0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
        "half_life_s": Parameter(choices=(0.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0)),
    },
)
