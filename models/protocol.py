"""Evaluation protocols: how one dataset version becomes a train part, valid requests and test requests.

- `loo-exact`: each user's last event is tested and the one before validates; events are ordered by int64 time, equal
  times by a seeded hash of the event, so neither the source's row order nor float rounding decides who is tested on what.
- `loo-recbole`: the same, ordered as RecBole 1.2.1 does (float32 time, then source row), for published figures.
- `temporal`: one cut in time for all users; nothing from after the cut is known, as in production. A user's first event after
  the cut is asked for, also of new users (an empty history) and with an item that is not in the catalogue (a miss).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import DataRefusedError
from configs.settings import EvaluationSettings, ProtocolId
from models.recommender import IntArray, Requests, Sequences

__all__ = ["ORDERINGS", "Ordering", "Split", "exact_order", "k_core", "split"]

Mask = npt.NDArray[np.bool_]
Ordering = Literal["float32-source", "exact-source", "exact-drawn"]
ORDERINGS: dict[ProtocolId, Ordering] = {"loo-exact": "exact-drawn", "loo-recbole": "float32-source", "temporal": "exact-drawn"}
"""How a protocol orders a user's events: by time rounded to float32 or exact, equal times by source row or drawn."""


@dataclass(frozen=True, eq=False)
class Split:
    """A dataset version under one protocol."""

    protocol: ProtocolId
    id: str  # `EvaluationSettings.protocol_id`
    train: Sequences
    valid: Requests
    test: Requests
    catalogue: IntArray  # (n_items,) raw item ids, ascending, that are ranked
    counts: dict[str, int]  # what the k-core dropped and what is left; `temporal` adds new users and unknown targets

    def masks_seen(self, sequential: bool) -> bool:
        """Whether items of a user's history are left out of the ranking. RecBole leaves them out for general models
        only, which makes its two kinds of model incomparable; the other protocols do it for all."""
        return self.protocol != "loo-recbole" or not sequential


def split(interactions: pd.DataFrame, settings: EvaluationSettings, ordering: Ordering | None = None) -> Split:
    """Split `interactions` (user_id, movie_id, timestamp; a source ordering is read from `row`).

    `ordering` takes the place of the protocol's own, to show what it is worth; its numbers are not the protocol's. Raises
    DataRefusedError when the k-core leaves nothing, or nobody has an event for each part.
    """
    users = interactions["user_id"].to_numpy(np.int64)
    items = interactions["movie_id"].to_numpy(np.int64)
    times = interactions["timestamp"].to_numpy(np.int64)
    ordering = ordering or ORDERINGS[settings.protocol]
    if ordering == "float32-source":
        # RecBole keeps times as float32, and so do its models: intervals are those of the rounded times.
        times = times.astype(np.float32).astype(np.int64)
    if ordering == "exact-drawn":
        order = exact_order(users, items, times, settings.tie_seed)
    else:
        order = np.lexsort((interactions["row"].to_numpy(np.int64), times, users))
    parts = _temporal if settings.protocol == "temporal" else _leave_one_out
    return parts(users[order], items[order], times[order], settings, ordering == "exact-drawn")


def k_core(users: IntArray, items: IntArray, k: int) -> Mask:
    """Events that are left when users and items with fewer than `k` events are dropped until none is."""
    user_codes, item_codes = _codes(users), _codes(items)
    kept = np.ones(len(users), dtype=bool)
    while True:
        user_counts = np.bincount(user_codes[kept], minlength=1)
        item_counts = np.bincount(item_codes[kept], minlength=1)
        enough = kept.copy()
        enough[kept] = (user_counts[user_codes[kept]] >= k) & (item_counts[item_codes[kept]] >= k)
        if enough.sum() == kept.sum():
            return kept
        kept = enough


def _leave_one_out(users: IntArray, items: IntArray, times: IntArray, settings: EvaluationSettings, ties_drawn: bool) -> Split:
    kept = k_core(users, items, settings.k_core)
    counts = _counts(users, items, kept)
    _refuse_if_empty(users, items, kept, settings.k_core)
    users, items, times = users[kept], items[kept], times[kept]
    events = _run_lengths(users)
    size = np.repeat(events, events)
    from_end = np.repeat(np.cumsum(events) - 1, events) - np.arange(len(users))
    # RecBole leaves a user with one event in train, and with two, no valid event.
    is_test = (from_end == 0) & (size >= 2)
    is_valid = (from_end == 1) & (size >= 3)
    in_train = ~is_test & ~is_valid
    if not is_valid.any():
        raise DataRefusedError(
            f"Leave-one-out needs users with at least 3 events; after the {settings.k_core}-core the most that any of "
            f"{counts['users']} users has is {int(size.max())}. Give more events, or use the protocol temporal "
            "(evaluation.protocol)."
        )
    return Split(
        protocol=settings.protocol,
        id=settings.protocol_id,
        train=_sequences(users[in_train], items[in_train], times[in_train], ties_drawn),
        valid=_requests(users, items, times, is_valid, in_train, settings, ties_drawn),
        test=_requests(users, items, times, is_test, in_train | is_valid, settings, ties_drawn),
        catalogue=_distinct(items),
        counts=counts,
    )


def _temporal(users: IntArray, items: IntArray, times: IntArray, settings: EvaluationSettings, ties_drawn: bool) -> Split:
    ordered = np.sort(times)
    last = len(ordered) - 1
    if last < 0:
        raise DataRefusedError("There are no interactions to split.")
    test_from = int(ordered[min(int(len(ordered) * (1 - settings.temporal_test_share)), last)])
    share = 1 - settings.temporal_test_share - settings.temporal_valid_share
    valid_from = int(ordered[max(int(len(ordered) * share), 0)])
    before = times < valid_from
    in_train = before.copy()
    in_train[before] = k_core(users[before], items[before], settings.k_core)
    counts = _counts(users[before], items[before], in_train[before])
    _refuse_if_empty(users[before], items[before], in_train[before], settings.k_core)
    is_valid = _first_of_user(users, (times >= valid_from) & (times < test_from))
    is_test = _first_of_user(users, times >= test_from)
    if not is_valid.any() or not is_test.any():
        raise DataRefusedError(
            f"The temporal protocol finds no events to validate or test on: its cuts lie at {valid_from} and {test_from} "
            "(UTC seconds) and one of the parts is empty. Raise evaluation.temporal_valid_share or "
            "evaluation.temporal_test_share."
        )
    # Histories hold all that happened before the cut: the k-core shapes what is learnt, not what a user did.
    valid = _requests(users, items, times, is_valid, before, settings, ties_drawn)
    test = _requests(users, items, times, is_test, times < test_from, settings, ties_drawn)
    catalogue = _distinct(items[in_train])
    for name, requests in (("valid", valid), ("test", test)):
        counts[f"{name}_new_users"] = int((requests.lengths == 0).sum())
        counts[f"{name}_unknown_targets"] = int((~np.isin(requests.targets, catalogue)).sum())
    return Split(
        protocol=settings.protocol,
        id=settings.protocol_id,
        train=_sequences(users[in_train], items[in_train], times[in_train], ties_drawn),
        valid=valid,
        test=test,
        catalogue=catalogue,
        counts=counts,
    )


def exact_order(users: IntArray, items: IntArray, times: IntArray, seed: int) -> IntArray:
    """Order by user, time, and where both are equal by splitmix64 over (seed, user, item, time), which is the same for an
    event wherever it stands in the source."""
    order = np.lexsort((times, users)).astype(np.int64)
    u, t = users[order], times[order]
    same = (u[1:] == u[:-1]) & (t[1:] == t[:-1])
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same)[: len(order)])
    rows = order[tied]
    key = np.full(len(rows), seed, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in (users[rows], items[rows], times[rows]):
            key = key * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64)
            key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            key ^= key >> np.uint64(31)
    order[tied] = rows[np.lexsort((key, times[rows], users[rows]))]
    return order


def _distinct(ids: IntArray) -> IntArray:
    """The ids, ascending and once each; of ids in a narrow range, counting is far faster than sorting."""
    if len(ids) == 0 or int(ids.max()) - int(ids.min()) > 4 * len(ids):
        return np.unique(ids)
    low = np.int64(ids.min())
    return np.flatnonzero(np.bincount(ids - low)).astype(np.int64) + low


def _codes(ids: IntArray) -> IntArray:
    """Small numbers from 0 that stand for the ids."""
    if len(ids) == 0 or int(ids.max()) - int(ids.min()) > 4 * len(ids):
        return np.unique(ids, return_inverse=True)[1]
    return ids - np.int64(ids.min())


def _run_lengths(users: IntArray) -> IntArray:
    """Events of each user; `users` is grouped and not empty."""
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    return np.diff(starts, append=len(users)).astype(np.int64)


def _first_of_user(users: IntArray, chosen: Mask) -> Mask:
    rows = np.flatnonzero(chosen)
    first = np.append(True, users[rows][1:] != users[rows][:-1])[: len(rows)]
    mask = np.zeros(len(users), dtype=bool)
    mask[rows[first]] = True
    return mask


def _sequences(users: IntArray, items: IntArray, times: IntArray, ties_drawn: bool) -> Sequences:
    offsets = np.concatenate([[0], np.cumsum(_run_lengths(users))]).astype(np.int64)
    return Sequences(users[offsets[:-1]], offsets, items, times, ties_drawn=ties_drawn)


def _requests(
    users: IntArray,
    items: IntArray,
    times: IntArray,
    is_target: Mask,
    is_history: Mask,
    settings: EvaluationSettings,
    ties_drawn: bool,
) -> Requests:
    asked = users[is_target]
    kept = is_history & np.isin(users, asked)
    rows = np.searchsorted(asked, users[kept])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(asked)))]).astype(np.int64)
    read, request_times = times[kept], times[is_target]
    if settings.request_time == "last" and len(read):
        # A user without events is asked for at the target's time: a model learns nothing from it.
        request_times = np.where(np.diff(offsets) > 0, read[np.maximum(offsets[1:] - 1, 0)], request_times)
    return Requests(
        asked, offsets, items[kept], read, request_times=request_times, targets=items[is_target], ties_drawn=ties_drawn
    )


def _counts(users: IntArray, items: IntArray, kept: Mask) -> dict[str, int]:
    n_users, n_items = len(_distinct(users[kept])), len(_distinct(items[kept]))
    return {
        "events": int(kept.sum()),
        "users": n_users,
        "items": n_items,
        "dropped_events": int((~kept).sum()),
        "dropped_users": len(_distinct(users)) - n_users,
        "dropped_items": len(_distinct(items)) - n_items,
    }


def _refuse_if_empty(users: IntArray, items: IntArray, kept: Mask, k: int) -> None:
    if not kept.any():
        raise DataRefusedError(
            f"The {k}-core leaves nothing of {len(users)} events by {len(_distinct(users))} users on "
            f"{len(_distinct(items))} items: no group of users and items has {k} events each. Give more events or lower "
            "evaluation.k_core."
        )
