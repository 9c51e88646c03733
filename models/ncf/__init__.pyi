from .inference import NCFScores
from .recommender import NCF
from .spec import SPEC

__all__ = ["NCF", "SPEC", "NCFScores"]
