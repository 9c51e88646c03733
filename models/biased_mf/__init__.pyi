from .least_squares import solved
from .recommender import BiasedMF
from .spec import SPEC, BiasedMFSettings

__all__ = ["SPEC", "BiasedMF", "BiasedMFSettings", "solved"]
