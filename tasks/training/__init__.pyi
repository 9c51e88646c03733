from .candidates import Candidate, candidate_kinds, clear_checkpoints, read_split, train_candidate
from .handoff import Origin, clear_hand_over, hand_over, take_over
from .subprocess_training import run_apart

__all__ = [
    "Candidate",
    "Origin",
    "candidate_kinds",
    "clear_checkpoints",
    "clear_hand_over",
    "hand_over",
    "read_split",
    "run_apart",
    "take_over",
    "train_candidate",
]
