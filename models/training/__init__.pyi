from .adamw import AdamW
from .checkpoint import Checkpoints, Learner, fingerprint_of
from .cuda_graph import GraphedEpochs
from .distributed import Placement, Replicas, joined_replicas, place, resolve_device
from .epochs import EagerEpochs, Epochs, StepRule, WeightAverage, name_first_nonfinite
from .holdout import HoldoutRanking
from .loop import Schedule, asked_epochs, fixed_epochs, judged_once, train
from .precision import autocast, half_type
from .rates import Rates
from .saved_files import Saved, read_model, write_model
from .warm import adopt_weights, same_rows, same_shapes

__all__ = [
    "AdamW",
    "Checkpoints",
    "EagerEpochs",
    "Epochs",
    "GraphedEpochs",
    "HoldoutRanking",
    "Learner",
    "Placement",
    "Rates",
    "Replicas",
    "Saved",
    "Schedule",
    "StepRule",
    "WeightAverage",
    "adopt_weights",
    "asked_epochs",
    "autocast",
    "fingerprint_of",
    "fixed_epochs",
    "half_type",
    "joined_replicas",
    "judged_once",
    "name_first_nonfinite",
    "place",
    "read_model",
    "resolve_device",
    "same_rows",
    "same_shapes",
    "train",
    "write_model",
]
