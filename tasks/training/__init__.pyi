from .cadence import (
    Began,
    Earlier,
    Past,
    Start,
    Warm,
    began_of_version,
    learnt_of_version,
    next_start,
    past_of,
    reach_of,
    warm_of_version,
)
from .candidates import Candidate, challenger_of, clear_checkpoints, train_candidate
from .splits import read_split
from .subprocess_training import run_apart
from .transfer import Machine, Origin, delete_uploaded, download_candidates, upload_candidates
from .warm_start import Beginning, choose_beginning

__all__ = [
    "Began",
    "Beginning",
    "Candidate",
    "Earlier",
    "Machine",
    "Origin",
    "Past",
    "Start",
    "Warm",
    "began_of_version",
    "challenger_of",
    "choose_beginning",
    "clear_checkpoints",
    "delete_uploaded",
    "download_candidates",
    "learnt_of_version",
    "next_start",
    "past_of",
    "reach_of",
    "read_split",
    "run_apart",
    "train_candidate",
    "upload_candidates",
    "warm_of_version",
]
