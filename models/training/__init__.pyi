from .adamw import AdamW
from .checkpoint import Checkpoints, Learner
from .cuda_graph import GraphedEpochs
from .distributed import Placement, Replicas, joined_replicas, place, resolve_device
from .epochs import EagerEpochs, Epochs, name_first_nonfinite
from .loop import Schedule, train

__all__ = [
    "AdamW",
    "Checkpoints",
    "EagerEpochs",
    "Epochs",
    "GraphedEpochs",
    "Learner",
    "Placement",
    "Replicas",
    "Schedule",
    "joined_replicas",
    "name_first_nonfinite",
    "place",
    "resolve_device",
    "train",
]
