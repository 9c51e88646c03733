"""What the registry of kinds must know about biased matrix factorisation. It needs no torch."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter

__all__ = ["SPEC", "BiasedMFSettings"]


class BiasedMFSettings(Settings):
    """Biased matrix factorisation: it predicts ratings, and ranks by them. It is a poor ranker; use it to compare ratings."""

    width: int = Field(default=16, ge=1)
    """Length of the vectors of users and items."""
    regularisation: float = Field(default=0.08, gt=0)
    """Penalty on the squared vectors and biases, for each rating of the user or item."""
    rounds: int = Field(default=12, ge=1)
    """How often the vectors of all items, and then of all users, are solved."""


SPEC = ModelSpec(
    kind="biased_mf",
    settings=BiasedMFSettings,
    recommender="models.biased_mf:BiasedMF",
    label="biased MF",
    colour="#a3623f",
    space={"width": Parameter(low=2, high=64, log=True), "regularisation": Parameter(low=0.01, high=1.0, log=True)},
)
