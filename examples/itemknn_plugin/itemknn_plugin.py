"""What recsys must know about ItemKNN."""

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter


class ItemKNNSettings(Settings):
    """Items that are like those of the user's history: cosine similarity of the users who have both."""

    neighbours: int = Field(default=100, ge=1)
    """Number of most similar items that are kept for each item."""
    shrink: float = Field(default=10.0, ge=0)
    """Added to the denominator, so that items with few users in common count less."""


SPEC = ModelSpec(
    kind="my_itemknn",
    settings=ItemKNNSettings,
    recommender="itemknn_model:ItemKNN",
    label="My ItemKNN",
    seeded=False,
    space={"neighbours": Parameter(low=10, high=300, log=True), "shrink": Parameter(low=0.0, high=100.0)},
)
