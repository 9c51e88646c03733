from .diversity import cosine_similarity, jaccard_similarity
from .rules import Ranking, RankRequest, Rules
from .top_k import best

__all__ = ["RankRequest", "Ranking", "Rules", "best", "cosine_similarity", "jaccard_similarity"]
