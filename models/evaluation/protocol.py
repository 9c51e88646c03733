"""Evaluation protocols: split a dataset version into a train part, valid requests and test requests.

- `loo-exact`: leave-one-out. Each user's last event is the test target, and the event before it is the valid target. Events are
  ordered by int64 time, and ties by a seeded hash of the event. Neither the source's row order nor float rounding therefore
  affects which events are held out.
- `loo-recbole`: the same, but ordered as in RecBole 1.2.1 (float32 time, then source row), to reproduce published figures.
- `loo-stable`: the same with int64 times, and ties in the order of the source. So order RecTools (its split by `LastN`) and a stable
  sort of what the HSTU repository reads, and both leave out seen items. Their published figures also keep all items
  (`evaluation.k_core: 0`).
- `temporal`: one cut in time for all users. As in production, the model has learnt nothing from after the cut. The target is each
  user's first event after the cut. This includes new users (their history is empty) and items that are not in the catalogue (these
  count as misses). `evaluation.temporal_target` chooses the last event or each event instead (Last and Successive in Gusak et al.,
  arXiv 2507.16289): the history then also has the user's events between the cut and the target.

A dataset may keep repeats (`data.repeats`): a user's events then include the same item several times, and the target may be an item
of the history. People do listen to a song again, so seen items stay in the ranking for all models, and the id of the protocol ends
with `repeats=keep`. The k-core counts events, so a repeated one counts each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import DataRefusedError
from configs.settings import EvaluationSettings, ProtocolId
from models.recommender import IntArray, Requests, Sequences

__all__ = ["ORDERINGS", "REPEATED", "Ordering", "Split", "exact_order", "k_core", "masks_seen", "split"]

Mask = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float32]
REPEATED = "repeats=keep"  # part of the id of a protocol on a dataset that keeps repeats
Ordering = Literal["float32-source", "exact-source", "exact-drawn"]
ORDERINGS: dict[ProtocolId, Ordering] = {
    "loo-exact": "exact-drawn",
    "loo-recbole": "float32-source",
    "loo-stable": "exact-source",
    "temporal": "exact-drawn",
}
"""How each protocol orders a user's events.

The time is exact or rounded to float32. Events with equal times are in source order or in drawn order.
"""


@dataclass(frozen=True, eq=False)
class Split:
    """A dataset version, split under one protocol."""

    protocol: ProtocolId
    id: str  # `EvaluationSettings.protocol_id_for`
    train: Sequences
    valid: Requests
    test: Requests
    catalogue: IntArray  # (n_items,) raw ids of the items to rank, ascending
    counts: dict[str, int]  # dropped and kept by the k-core; `temporal` adds new users and unknown targets

    def masks_seen(self, sequential: bool) -> bool:
        """Whether the items in a user's history are excluded from the ranking. See `masks_seen`."""
        return masks_seen(self.id, sequential)


def masks_seen(protocol_id: str, sequential: bool) -> bool:
    """Return whether the items in a user's history are excluded from the ranking of a model.

    RecBole excludes them only for general models, so its general and sequential models are not comparable. The other protocols
    exclude them for all models, unless the dataset keeps repeats.

    Args:
        protocol_id: As in `Split.id`, in a lineage, or in `ModelRef.protocol`.
        sequential: Whether the model reads the order of events.
    """
    protocol, *more = protocol_id.split(";")
    return REPEATED not in more and (protocol != "loo-recbole" or not sequential)


def split(
    interactions: pd.DataFrame,
    settings: EvaluationSettings,
    ordering: Ordering | None = None,
    *,
    repeats: Literal["newest", "keep"] = "newest",
    whole: bool = False,
) -> Split:
    """Split `interactions` under the protocol in `settings`.

    Args:
        interactions: The columns user_id, item_id and timestamp, also `row` for an ordering by source row, and `weight` and `rating`
            if events have one.
        settings: The protocol and its parameters.
        ordering: Replaces the protocol's own ordering, to measure its effect. The results are then not those of the protocol.
        repeats: Whether the dataset keeps repeats.
        whole: Whether the train part has all events, also those that are held out, after the k-core. A model that is trained on it can
            be served, but not evaluated.

    Raises:
        DataRefusedError: if the k-core leaves nothing, or one of the parts would be empty.
    """
    users = interactions["user_id"].to_numpy(np.int64)
    items = interactions["item_id"].to_numpy(np.int64)
    times = interactions["timestamp"].to_numpy(np.int64)
    ordering = ordering or ORDERINGS[settings.protocol]
    if ordering == "float32-source":
        # RecBole and its models store times as float32, so intervals are computed from the rounded times.
        times = times.astype(np.float32).astype(np.int64)
    if ordering == "exact-drawn":
        order = exact_order(users, items, times, settings.tie_seed)
    else:
        order = np.lexsort((interactions["row"].to_numpy(np.int64), times, users))
    weights, ratings = (
        interactions[name].to_numpy(np.float32)[order] if name in interactions else None for name in ("weight", "rating")
    )
    events = _Events(users[order], items[order], times[order], weights, ordering == "exact-drawn", ratings)
    parts = _temporal if settings.protocol == "temporal" else _leave_one_out
    found = replace(parts(events, settings), id=settings.protocol_id_for(repeats))
    return _with_all_events(found, events, settings.k_core) if whole else found


@dataclass(frozen=True, eq=False)
class _Events:
    """Events in the protocol's order: by user, then oldest first."""

    users: IntArray
    items: IntArray
    times: IntArray
    weights: Weights | None
    ties_drawn: bool
    ratings: Weights | None

    def at(self, chosen: Mask) -> _Events:
        weights, ratings = (None if each is None else each[chosen] for each in (self.weights, self.ratings))
        return _Events(self.users[chosen], self.items[chosen], self.times[chosen], weights, self.ties_drawn, ratings)


def k_core(users: IntArray, items: IntArray, k: int) -> Mask:
    """Return a mask of the events in the k-core.

    Users and items with fewer than `k` events are dropped repeatedly until none are left.
    """
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


def _leave_one_out(found: _Events, settings: EvaluationSettings) -> Split:
    kept = k_core(found.users, found.items, settings.k_core)
    counts = _counts(found.users, found.items, kept)
    _refuse_if_empty(found.users, found.items, kept, settings.k_core)
    found = found.at(kept)
    users = found.users
    events = _run_lengths(users)
    size = np.repeat(events, events)
    from_end = np.repeat(np.cumsum(events) - 1, events) - np.arange(len(users))
    # As in RecBole, a single event stays in train, and a user with two events has no valid event.
    is_test = (from_end == 0) & (size >= 2)
    is_valid = (from_end == 1) & (size >= 3)
    in_train = ~is_test & ~is_valid
    if not is_valid.any():
        raise DataRefusedError(
            f"Leave-one-out needs users with at least 3 events. After the {settings.k_core}-core, none of the "
            f"{counts['users']} users has more than {int(size.max())}. Provide more events, or use the protocol temporal "
            "(evaluation.protocol)."
        )
    return Split(
        protocol=settings.protocol,
        id=settings.protocol_id,
        train=_sequences(found.at(in_train)),
        valid=_requests(found, is_valid, in_train, settings),
        test=_requests(found, is_test, in_train | is_valid, settings),
        catalogue=_distinct(found.items),
        counts=counts,
    )


def _temporal(found: _Events, settings: EvaluationSettings) -> Split:
    users, items, times = found.users, found.items, found.times
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
    is_valid = _chosen_of_user(users, (times >= valid_from) & (times < test_from), settings.temporal_target)
    is_test = _chosen_of_user(users, times >= test_from, settings.temporal_target)
    if not is_valid.any() or not is_test.any():
        raise DataRefusedError(
            f"The temporal protocol found no events to validate or test on: its cuts are at {valid_from} and {test_from} "
            "(UTC seconds), and one of the parts is empty. Raise evaluation.temporal_valid_share or "
            "evaluation.temporal_test_share."
        )
    # Histories contain all events before the cut: the k-core only limits the training data.
    if settings.temporal_target == "first":
        valid = _requests(found, is_valid, before, settings)
        test = _requests(found, is_test, times < test_from, settings)
    else:
        valid, test = _requests_after_all(found, is_valid, settings), _requests_after_all(found, is_test, settings)
    catalogue = _distinct(items[in_train])
    for name, requests in (("valid", valid), ("test", test)):
        counts[f"{name}_new_users"] = int((requests.lengths == 0).sum())
        counts[f"{name}_unknown_targets"] = int((~np.isin(requests.targets, catalogue)).sum())
    return Split(
        protocol=settings.protocol,
        id=settings.protocol_id,
        train=_sequences(found.at(in_train)),
        valid=valid,
        test=test,
        catalogue=catalogue,
        counts=counts,
    )


def _with_all_events(parts: Split, found: _Events, k: int) -> Split:
    """Return the split with all events of the k-core in the train part, and with the catalogue of those."""
    kept = k_core(found.users, found.items, k)
    return replace(
        parts,
        train=_sequences(found.at(kept)),
        catalogue=_distinct(found.items[kept]),
        counts=_counts(found.users, found.items, kept),
    )


def exact_order(users: IntArray, items: IntArray, times: IntArray, seed: int) -> IntArray:
    """Return the row order by user, then time, then a seeded hash.

    The hash is splitmix64 over (seed, user, item, time). It does not depend on where an event is in the source.
    """
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
    """Return the distinct ids, ascending. If the ids span a narrow range, counting is far faster than sorting."""
    if len(ids) == 0 or int(ids.max()) - int(ids.min()) > 4 * len(ids):
        return np.unique(ids)
    low = np.int64(ids.min())
    return np.flatnonzero(np.bincount(ids - low)).astype(np.int64) + low


def _codes(ids: IntArray) -> IntArray:
    """Map the ids to small integers from 0."""
    if len(ids) == 0 or int(ids.max()) - int(ids.min()) > 4 * len(ids):
        return np.unique(ids, return_inverse=True)[1]
    return ids - np.int64(ids.min())


def _run_lengths(users: IntArray) -> IntArray:
    """Return the number of events of each user. `users` must be grouped by user and not empty."""
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    return np.diff(starts, append=len(users)).astype(np.int64)


def _chosen_of_user(users: IntArray, chosen: Mask, which: Literal["first", "last", "successive"]) -> Mask:
    """Return the first, the last, or each of the chosen events of every user."""
    if which == "successive":
        return chosen
    rows = np.flatnonzero(chosen)
    differs = users[rows][1:] != users[rows][:-1]
    edge = np.append(True, differs) if which == "first" else np.append(differs, True)
    mask = np.zeros(len(users), dtype=bool)
    mask[rows[edge[: len(rows)]]] = True
    return mask


def _sequences(events: _Events) -> Sequences:
    offsets = np.concatenate([[0], np.cumsum(_run_lengths(events.users))]).astype(np.int64)
    firsts = events.users[offsets[:-1]]
    return Sequences(
        firsts,
        offsets,
        events.items,
        events.times,
        ties_drawn=events.ties_drawn,
        weights=events.weights,
        ratings=events.ratings,
    )


def _requests_after_all(events: _Events, is_target: Mask, settings: EvaluationSettings) -> Requests:
    """Return a request for each target, with all earlier events of its user as the history. A user may have several."""
    targets = np.flatnonzero(is_target)
    starts = np.searchsorted(events.users, events.users[targets])
    lengths = targets - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(starts, lengths)
    request_times = events.times[targets]
    if settings.query_time == "last":
        request_times = np.where(lengths > 0, events.times[np.maximum(targets - 1, 0)], request_times)
    return Requests(
        events.users[targets],
        offsets,
        events.items[rows],
        events.times[rows],
        request_times=request_times,
        targets=events.items[targets],
        ties_drawn=events.ties_drawn,
        ratings=None if events.ratings is None else events.ratings[rows],
        target_ratings=None if events.ratings is None else events.ratings[targets],
    )


def _requests(events: _Events, is_target: Mask, is_history: Mask, settings: EvaluationSettings) -> Requests:
    users, items, times = events.users, events.items, events.times
    asked = users[is_target]
    kept = is_history & np.isin(users, asked)
    rows = np.searchsorted(asked, users[kept])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(asked)))]).astype(np.int64)
    read, request_times = times[kept], times[is_target]
    if settings.query_time == "last" and len(read):
        # A user without a history gets the target's time, which gives the model no information.
        request_times = np.where(np.diff(offsets) > 0, read[np.maximum(offsets[1:] - 1, 0)], request_times)
    ratings = events.ratings
    return Requests(
        asked,
        offsets,
        items[kept],
        read,
        request_times=request_times,
        targets=items[is_target],
        ties_drawn=events.ties_drawn,
        ratings=None if ratings is None else ratings[kept],
        target_ratings=None if ratings is None else ratings[is_target],
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
            f"{len(_distinct(items))} items: no group of users and items has {k} events each. Provide more events, or "
            "lower evaluation.k_core."
        )
