from .catalogue import catalogue_cross_entropy, gbce, sampled_softmax
from .next_item import LossName, NextItemLoss
from .soft_targets import Predictor, SoftTargets

__all__ = ["LossName", "NextItemLoss", "Predictor", "SoftTargets", "catalogue_cross_entropy", "gbce", "sampled_softmax"]
