"""Steady feeds: users who come back, in sessions, week after week."""

from __future__ import annotations

import numpy as np
import pandas as pd

WEEK = 7 * 86_400
START = 800_000_000 // WEEK * WEEK


def steady(users: int, weeks: int, *, every_days: float = 7, seed: int = 0) -> pd.DataFrame:
    """Each user comes about every `every_days` days in the evening, for 4 to 15 events, a minute apart or so."""
    rng = np.random.default_rng(seed)
    visits = []
    for user in range(1, users + 1):
        day = rng.uniform(0, every_days)
        while day < weeks * 7:
            visits.append((user, int(day) * 86_400 + int(rng.normal(18, 2) * 3600)))
            day += every_days * rng.uniform(0.9, 1.1)
    who, when = np.array(visits).T
    lengths = rng.integers(4, 16, len(visits))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    step = np.arange(lengths.sum()) - first
    popular = np.minimum(rng.geometric(0.03, lengths.sum()), 200)
    frame = pd.DataFrame(
        {
            "user_id": np.repeat(who, lengths),
            "item_id": 100 + popular,
            "rating": rng.choice([2.0, 3.0, 4.0, 5.0], lengths.sum()),
            "timestamp": START + np.repeat(when, lengths) + step * 60 + rng.integers(0, 50, lengths.sum()),
        }
    )
    return frame.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True)


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
