from .inference import NCFScores
from .recommender import NCF

__all__ = ["NCF", "NCFScores"]
