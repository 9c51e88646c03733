from .head import Features, RatingHead
from .hidden import Hidden, event_features, pair_features
from .offsets import RatingOffsets

__all__ = ["Features", "Hidden", "RatingHead", "RatingOffsets", "event_features", "pair_features"]
