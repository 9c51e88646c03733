from .diversity import cosine_similarity, jaccard_similarity
from .rules import Ranking, RankRequest, Rules, asked_attribute

__all__ = ["RankRequest", "Ranking", "Rules", "asked_attribute", "cosine_similarity", "jaccard_similarity"]
