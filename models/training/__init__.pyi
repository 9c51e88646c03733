from .adamw import AdamW
from .checkpoint import Checkpoints, Learner, fingerprint_of
from .cuda_graph import GraphedEpochs
from .distributed import Placement, Replicas, joined_replicas, place, resolve_device
from .epochs import EagerEpochs, Epochs, StepRule, WeightAverage, name_first_nonfinite
from .loop import Schedule, judged_once, train
from .rates import Rates
from .saved_files import Saved, read_model, write_model

__all__ = [
    "AdamW",
    "Checkpoints",
    "EagerEpochs",
    "Epochs",
    "GraphedEpochs",
    "Learner",
    "Placement",
    "Rates",
    "Replicas",
    "Saved",
    "Schedule",
    "StepRule",
    "WeightAverage",
    "fingerprint_of",
    "joined_replicas",
    "judged_once",
    "name_first_nonfinite",
    "place",
    "read_model",
    "resolve_device",
    "train",
    "write_model",
]
