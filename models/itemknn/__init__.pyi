from .recommender import ItemKNN
from .similarity import nearest_items, recency
from .spec import SPEC, ItemKNNSettings

__all__ = ["SPEC", "ItemKNN", "ItemKNNSettings", "nearest_items", "recency"]
