from .inference import PopularityCounts
from .recommender import Popularity
from .spec import SPEC

__all__ = ["SPEC", "Popularity", "PopularityCounts"]
