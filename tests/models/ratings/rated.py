"""Events whose ratings can be predicted: each user and item has a taste, and ratings follow from both."""

from __future__ import annotations

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings
from models.evaluation import Split, split


def rated_split(users: int = 80, items: int = 30, events: int = 18, seed: int = 0) -> Split:
    """Return a split by leave-one-out. A rating is 3, an offset of the user, one of the item, and whether their tastes agree."""
    rng = np.random.default_rng(seed)
    of_users, of_items = rng.normal(0, 0.4, users), rng.normal(0, 0.4, items)
    taste, kind = rng.choice([-1, 1], users), rng.choice([-1, 1], items)
    rows = []
    for user in range(users):
        for step, item in enumerate(rng.permutation(items)[:events]):
            rating = 3 + of_users[user] + of_items[item] + 0.8 * taste[user] * kind[item] + rng.normal(0, 0.15)
            rows.append((user, 100 + int(item), float(np.clip(rating, 1, 5)), 1_000_000 + 977 * step))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))
