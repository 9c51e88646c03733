"""What the registry of kinds must know about the Markov chain. It needs neither torch nor scipy."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter

__all__ = ["SPEC", "MarkovSettings"]


class MarkovSettings(Settings):
    """First-order Markov chain: what users chose next after the item that the user had last."""

    smoothing: float = Field(default=5.0, gt=0)
    """How many transitions the popularity of items counts like. The higher it is, the more transitions an item needs before they
    outweigh popularity."""


SPEC = ModelSpec(
    kind="markov",
    settings=MarkovSettings,
    recommender="models.markov:Markov",
    label="Markov",
    colour="#7d4f9e",
    seeded=False,
    space={"smoothing": Parameter(low=0.01, high=1000.0, log=True)},
)
