"""The kinds of `models.transformers`, small enough for tests, and invented events whose order can be learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from configs.kinds import spec_of
from configs.settings import EvaluationSettings
from models.evaluation import Split, split
from models.kinds import recommender_class
from models.transformers.recommender import SequenceRecommender

__all__ = ["KINDS", "SMALL", "ring", "untrained"]

KINDS = ("sasrec", "gsasrec", "esasrec", "hstu", "lrurec")
SMALL: dict[str, Any] = {
    "width": 16, "blocks": 1, "max_length": 8, "batch_tokens": 256, "learning_rate": 0.02, "warm_up": 0.0, "dropout": 0.1,
    "embedding_dropout": 0.0, "weight_averaging": 0.9, "max_epochs": 8, "patience": 30, "negatives": 8, "device": "cpu",
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "gsasrec": {"learning_rate": 0.003, "batch_tokens": 64, "dropout": 0.0, "max_epochs": 24},  # all scores are equal at first
}


def untrained(kind: str, **changes: Any) -> SequenceRecommender:
    """Return a small model of a kind."""
    spec = spec_of(kind)
    made: SequenceRecommender = recommender_class(spec)(spec.settings(**SMALL | OWN.get(kind, {}) | changes))
    return made


def ring(users: int = 120, items: int = 30, events: int = 14) -> Split:
    """Return events of users who mostly go from an item to the next one of a ring. All items are about equally popular."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(users):
        place, time = int(rng.integers(items)), 1_000_000_000
        for _ in range(events):
            rows.append((user, 1000 + 7 * place, 4.0, time))
            place = (place + 1 if rng.random() < 0.85 else int(rng.integers(items))) % items
            time += int(rng.integers(1, 90_000))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"]).drop_duplicates(["user_id", "item_id"])
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))
