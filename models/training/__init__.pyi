from .adamw import AdamW
from .cuda_graph import GraphedEpochs
from .distributed import Placement, Replicas, joined_replicas, place, resolve_device
from .loop import EagerEpochs, Epochs, Schedule, name_first_nonfinite, train

__all__ = [
    "AdamW",
    "EagerEpochs",
    "Epochs",
    "GraphedEpochs",
    "Placement",
    "Replicas",
    "Schedule",
    "joined_replicas",
    "name_first_nonfinite",
    "place",
    "resolve_device",
    "train",
]
