"""What the registry of kinds must know about EASE. It needs neither torch nor scipy."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter

__all__ = ["SPEC", "EASESettings"]


class EASESettings(Settings):
    """EASE (arXiv 1905.03375): a linear model with one weight for each pair of items, solved in closed form."""

    regularisation: float = Field(default=300.0, gt=0)
    """Penalty on the squared weights. The more events the data has, the higher it should be."""
    memory_gib: float = Field(default=8.0, gt=0)
    """Most memory that the training may use for the weights, in GiB. They take 12 bytes for each pair of items while they are solved,
    and 4 bytes afterwards: 8 GiB are enough for 26,000 items."""


SPEC = ModelSpec(
    kind="ease",
    settings=EASESettings,
    recommender="models.ease:EASE",
    label="EASE",
    colour="#3f7f93",
    seeded=False,
    space={"regularisation": Parameter(low=1.0, high=10_000.0, log=True)},
    not_searched={"memory_gib": "memory_gib says what the machine has, not what the model learns. Set models.ease.memory_gib"},
)
