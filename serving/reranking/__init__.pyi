from .diversity import cosine_similarity, jaccard_similarity
from .rules import Ranking, RankRequest, Rules

__all__ = ["RankRequest", "Ranking", "Rules", "cosine_similarity", "jaccard_similarity"]
