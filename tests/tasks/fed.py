"""Steady feeds, as the benchmark of drift makes them, and bots."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.pipeline.drift_power import START, steady_feed
from benchmarks.pipeline.drift_power import WEEK_S as WEEK

__all__ = ["START", "WEEK", "bots", "steady"]

steady = steady_feed


def bots(users: int, events: int, begin: int, seed: int = 0) -> pd.DataFrame:
    """New users who give 5 stars to the same few films, one a second, from `begin` (UTC seconds) on."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": np.repeat(900_000 + np.arange(users), events),
            "item_id": 100 + np.concatenate([rng.permutation(events) for _ in range(users)]),
            "rating": 5.0,
            "timestamp": begin + np.tile(np.arange(events), users),
        }
    )
