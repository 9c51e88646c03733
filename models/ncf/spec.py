"""What the registry of kinds must know about NCF. It needs neither torch nor RecBole."""

from __future__ import annotations

from configs.kinds import ModelSpec
from configs.settings import NCFSettings

__all__ = ["SPEC"]

SPEC = ModelSpec(
    kind="ncf",
    settings=NCFSettings,
    recommender="models.ncf:NCF",
    serving="models.ncf:NCFScores",
    label="NCF",
    colour="#cf7a24",
)
