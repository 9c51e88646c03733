from .recommender import Markov
from .spec import SPEC, MarkovSettings

__all__ = ["SPEC", "Markov", "MarkovSettings"]
