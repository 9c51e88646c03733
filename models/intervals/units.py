"""Times are in seconds. Those of many shops and logs are in milliseconds, and a network would learn from them without a complaint."""

from __future__ import annotations

import numpy as np

from configs.errors import TrainingError
from models.recommender import Sequences

__all__ = ["refuse_milliseconds"]

MILLISECONDS_FROM = 100_000_000_000  # as seconds, this is in the year 5138


def refuse_milliseconds(train: Sequences, label: str) -> None:
    """Raise TrainingError if the timestamps look like milliseconds. `label` names the model that reads them."""
    if len(train.timestamps) and int(np.median(train.timestamps)) > MILLISECONDS_FROM:
        raise TrainingError(
            f"The timestamps look like milliseconds (median {int(np.median(train.timestamps))}), but {label} needs seconds. Divide "
            "the column timestamp by 1000 before building the dataset."
        )
