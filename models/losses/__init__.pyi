from .catalogue import catalogue_cross_entropy, gbce, sampled_softmax
from .next_item import LossName, NextItemLoss

__all__ = ["LossName", "NextItemLoss", "catalogue_cross_entropy", "gbce", "sampled_softmax"]
