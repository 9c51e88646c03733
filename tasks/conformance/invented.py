"""Invented events for the checks: few, with ids like those of a team's own data, and with an order that can be learnt."""

from __future__ import annotations

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings
from models.evaluation import Split, split
from models.recommender import IntArray, Requests

__all__ = ["ITEMS", "NOBODY", "UNKNOWN", "frozen", "invented_split", "with_histories"]

USERS, ITEMS, EVENTS = 60, 40, 20
START = 1_700_000_000  # UTC seconds
UNKNOWN = np.int64(1)  # an item that no event has
NOBODY = np.iinfo(np.int64).min  # the user of a request without one


def invented_split() -> Split:
    """Return events of 60 users with 40 items, split by leave-one-out. Ids are 63-bit numbers, as those of text ids are."""
    rng = np.random.default_rng(7)
    items = np.sort(rng.choice(1 << 40, ITEMS, replace=False) + (1 << 61))
    users = np.sort(rng.choice(1 << 40, USERS, replace=False) + (1 << 60))
    rows = []
    for user in users:
        place, met, time = int(rng.integers(ITEMS)), set[int](), START + int(rng.integers(10**6))
        for _ in range(EVENTS):
            while place in met:
                place = (place + 1 if rng.random() < 0.8 else int(rng.integers(ITEMS))) % ITEMS
            met.add(place)
            time += int(rng.integers(0, 5000))
            rows.append((user, items[place], 5.0, time))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    frame["row"] = np.arange(len(frame))
    return split(frame, EvaluationSettings(k_core=0))


def with_histories(requests: Requests, histories: list[tuple[IntArray, IntArray]]) -> Requests:
    """Return the requests with other histories: for each, the items and the times of its events."""
    lengths = [len(items) for items, _ in histories]
    return frozen(
        Requests(
            user_ids=requests.user_ids,
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            item_ids=np.concatenate([items for items, _ in histories]).astype(np.int64),
            timestamps=np.concatenate([times for _, times in histories]).astype(np.int64),
            request_times=requests.request_times,
            targets=requests.targets,
        )
    )


def frozen(requests: Requests) -> Requests:
    """Make the arrays read-only, so that a model that writes into them is found."""
    for array in (requests.user_ids, requests.offsets, requests.item_ids, requests.timestamps):
        array.flags.writeable = False
    return requests
