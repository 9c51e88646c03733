from .described_items import DescribedItems
from .features import FEATURES, item_features

__all__ = ["FEATURES", "DescribedItems", "item_features"]
