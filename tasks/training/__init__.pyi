from .candidates import Candidate, challenger_of, clear_checkpoints, read_split, train_candidate
from .subprocess_training import run_apart
from .transfer import Machine, Origin, delete_uploaded, download_candidates, upload_candidates

__all__ = [
    "Candidate",
    "Machine",
    "Origin",
    "challenger_of",
    "clear_checkpoints",
    "delete_uploaded",
    "download_candidates",
    "read_split",
    "run_apart",
    "train_candidate",
    "upload_candidates",
]
