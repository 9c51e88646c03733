from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.data import load_events
from configs.errors import DataRefusedError
from configs.settings import EvaluationSettings
from models.evaluation import Split, rank_requests, split
from models.evaluation.protocol import k_core
from models.recommender import FitReport, Recommender, Requests
from tests import synthetic

EXACT = EvaluationSettings(k_core=0)
TEMPORAL = EvaluationSettings(k_core=0, protocol="temporal", temporal_valid_share=0.3, temporal_test_share=0.3)
Events = list[tuple[int, int, int]]
TIMES = st.integers(0, 6)
EVENTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 8), TIMES), min_size=4, max_size=50)
OTHERS = st.lists(st.tuples(st.integers(20, 25), st.integers(1, 8), TIMES), max_size=20)


@st.composite
def events_to_leave_out(draw: st.DrawFn, users: int = 1) -> Events:
    """Draw events in which `users` users have three events each, on the same items.

    Leave-one-out needs one such user, and two if it keeps the 2-core.
    """
    chosen = draw(st.lists(st.integers(1, 5), min_size=users, max_size=users, unique=True))
    return [*((user, item, draw(TIMES)) for user in chosen for item in (1, 2, 3)), *draw(EVENTS)]


def split_or_reject(table: pd.DataFrame, settings: EvaluationSettings) -> Split:
    """Split the events. Hypothesis draws others instead of those that are refused, and fails if it finds too few."""
    try:
        return split(table, settings)
    except DataRefusedError:
        reject()


def frame(events: Events) -> pd.DataFrame:
    table = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]).drop_duplicates(["user_id", "item_id"])
    return table.assign(row=np.arange(len(table)))


def history(requests: Requests, row: int) -> list[int]:
    return requests.item_ids[requests.offsets[row] : requests.offsets[row + 1]].tolist()


@given(events_to_leave_out(), st.sampled_from(["loo-exact", "loo-recbole"]))
def test_every_event_lands_in_one_part_and_the_last_ones_are_held_out(events: Events, protocol: str) -> None:
    table = frame(events)
    parts = split(table, EvaluationSettings(k_core=0, protocol=protocol))  # type: ignore[arg-type]
    assert len(parts.train.item_ids) + len(parts.valid) + len(parts.test) == len(table)
    for row, user in enumerate(parts.test.user_ids):
        own = table[table["user_id"] == user]
        assert sorted([*history(parts.test, row), int(parts.test.targets[row])]) == sorted(own["item_id"])
        assert parts.test.request_times[row] == own["timestamp"].max()
    for row, user in enumerate(parts.valid.user_ids):
        at = int(np.flatnonzero(parts.test.user_ids == user)[0])
        assert history(parts.test, at) == [*history(parts.valid, row), int(parts.valid.targets[row])]
    for part in (parts.train, parts.valid, parts.test):
        inside = np.diff(part.timestamps, prepend=0)
        inside[part.offsets[:-1][part.lengths > 0]] = 0
        assert (inside >= 0).all()


@given(events_to_leave_out(), st.randoms(use_true_random=False))
def test_row_order_of_the_source_decides_nothing_in_loo_exact(events: Events, random: Random) -> None:
    table = frame(events)
    shuffled = table.iloc[random.sample(range(len(table)), len(table))].assign(row=np.arange(len(table)))
    first, second = split(table, EXACT), split(shuffled, EXACT)
    for a, b in ((first.valid, second.valid), (first.test, second.test)):
        assert (a.user_ids == b.user_ids).all() and (a.targets == b.targets).all() and (a.item_ids == b.item_ids).all()
    assert (first.train.item_ids == second.train.item_ids).all()


@given(events_to_leave_out())
def test_a_twin_asks_at_the_last_event_of_the_history_and_changes_nothing_else(events: Events) -> None:
    table = frame(events)
    first, twin = split(table, EXACT), split(table, EvaluationSettings(k_core=0, query_time="last"))
    for a, b in ((first.valid, twin.valid), (first.test, twin.test)):
        assert (a.targets == b.targets).all() and (a.item_ids == b.item_ids).all() and (a.timestamps == b.timestamps).all()
        assert (b.request_times == b.timestamps[b.offsets[1:] - 1]).all() and (b.request_times <= a.request_times).all()


def test_another_tie_seed_changes_the_order_of_ties_and_nothing_else() -> None:
    table = synthetic.interactions(40, 40, 30)
    first = split(table, EXACT)
    second = split(table, EvaluationSettings(k_core=0, tie_seed=7))
    assert (first.test.request_times == second.test.request_times).all()
    assert (first.test.targets != second.test.targets).any()


def test_loo_recbole_orders_ties_by_source_row_after_rounding_times_to_float32() -> None:
    base = 1_000_000_000  # float32 steps are 64 s here
    table = pd.DataFrame({"user_id": 1, "item_id": [5, 4, 3, 2], "timestamp": [base + 20, base + 10, base + 5, base + 200]})
    parts = split(table.assign(row=range(4)), EvaluationSettings(k_core=0, protocol="loo-recbole"))
    assert parts.train.item_ids.tolist() == [5, 4] and parts.valid.targets.tolist() == [3] and parts.test.targets.tolist() == [2]
    assert set(parts.train.timestamps) == {int(np.float32(base))}
    exact = split(table.assign(row=range(4)), EXACT)
    assert exact.train.item_ids.tolist() == [3, 4] and exact.valid.targets.tolist() == [5]


@given(EVENTS, st.integers(1, 4))
def test_k_core_leaves_the_largest_group_with_k_events_each(events: Events, k: int) -> None:
    table = frame(events)
    kept = table[k_core(table["user_id"].to_numpy(), table["item_id"].to_numpy(), k)]
    assert not len(kept) or min(kept.groupby("user_id").size().min(), kept.groupby("item_id").size().min()) >= k
    plain = table
    while True:
        users, movies = plain.groupby("user_id")["row"].transform("size"), plain.groupby("item_id")["row"].transform("size")
        smaller = plain[(users >= k) & (movies >= k)]
        if len(smaller) == len(plain):
            break
        plain = smaller
    assert kept["row"].tolist() == plain["row"].tolist()


@given(EVENTS)
def test_temporal_knows_nothing_from_after_a_cut(events: Events) -> None:
    table = frame(events)
    parts = split_or_reject(table, TEMPORAL)
    cut_valid, cut_test = parts.valid.request_times.min(), parts.test.request_times.min()
    assert parts.train.timestamps.max(initial=-1) < cut_valid <= parts.valid.request_times.max() < cut_test
    assert parts.valid.timestamps.max(initial=-1) < cut_valid and parts.test.timestamps.max(initial=-1) < cut_test
    assert len(np.unique(parts.test.user_ids)) == len(parts.test)
    for row, user in enumerate(parts.test.user_ids):
        before = table[(table["user_id"] == user) & (table["timestamp"] < cut_test)]
        assert sorted(history(parts.test, row)) == sorted(before["item_id"])


def test_temporal_asks_for_new_users_too() -> None:
    table = pd.DataFrame({"user_id": [1] * 8 + [2, 2], "item_id": [*range(8), 1, 2], "timestamp": [*range(8), 8, 9]})
    parts = split(table.assign(row=range(10)), EvaluationSettings(k_core=0, protocol="temporal"))
    assert parts.test.user_ids.tolist() == [2] and history(parts.test, 0) == [1]
    assert parts.valid.user_ids.tolist() == [2] and history(parts.valid, 0) == []
    assert 1 not in set(parts.test.user_ids)
    assert parts.counts["valid_new_users"] == 1 and parts.counts["test_new_users"] == 0


def test_temporal_counts_targets_that_nobody_has_seen_before() -> None:
    table = pd.DataFrame({"user_id": [1] * 8 + [2, 2], "item_id": [*range(8), 1, 99], "timestamp": [*range(8), 8, 9]})
    parts = split(table, EvaluationSettings(k_core=0, protocol="temporal"))
    assert parts.test.targets.tolist() == [99] and 99 not in parts.catalogue
    assert parts.counts["test_unknown_targets"] == 1 and parts.counts["valid_unknown_targets"] == 0


def stably_left_out(table: pd.DataFrame) -> tuple[dict[int, list[int]], dict[int, int], dict[int, int]]:
    """Leave out each user's last two events after a stable sort by time, as RecTools and HSTU's code do. Uses nothing of this project.

    Returns the train items, the valid target and the test target by user.
    """
    lists = table.sort_values("timestamp", kind="stable").groupby("user_id")["item_id"].agg(list)
    train = {int(user): items[:-2] if len(items) > 2 else items[:1] for user, items in lists.items()}
    valid = {int(user): items[-2] for user, items in lists.items() if len(items) > 2}
    return train, valid, {int(user): items[-1] for user, items in lists.items() if len(items) > 1}


def parts_of(parts: Split) -> tuple[dict[int, list[int]], dict[int, int], dict[int, int]]:
    own = parts.train
    train = {int(user): own.item_ids[own.offsets[row] : own.offsets[row + 1]].tolist() for row, user in enumerate(own.user_ids)}
    valid, test = (dict(zip(each.user_ids.tolist(), each.targets.tolist(), strict=True)) for each in (parts.valid, parts.test))
    return train, valid, test


@given(events_to_leave_out(), st.randoms())
def test_loo_stable_is_a_stable_sort_by_time_in_the_order_of_the_file(events: Events, random: Random) -> None:
    random.shuffle(events)
    table = frame(events)
    parts = split(table, EvaluationSettings(k_core=0, protocol="loo-stable"))
    assert parts_of(parts) == stably_left_out(table) and not parts.train.ties_drawn


def test_the_leave_one_out_protocols_differ_in_ties_and_in_seconds_that_float32_cannot_tell_apart() -> None:
    second = 978_300_000
    times = [0, 1, 2, second, second, second + 1, second + 1000]
    events = {"user_id": 1, "item_id": [1, 2, 3, 40, 30, 20, 10], "timestamp": times}
    table = pd.DataFrame(events).iloc[[0, 1, 2, 5, 3, 4]].assign(row=range(6))  # the event a second later comes first in the file
    held = {
        name: parts_of(split(table, EvaluationSettings(k_core=0, protocol=name)))[1:]  # type: ignore[arg-type]
        for name in ("loo-stable", "loo-recbole")
    }
    assert held == {"loo-stable": ({1: 30}, {1: 20}), "loo-recbole": ({1: 40}, {1: 30})}
    drawn = {split(table, EvaluationSettings(k_core=0, tie_seed=seed)).valid.targets.item() for seed in range(20)}
    assert drawn == {30, 40}, "loo-exact draws the order of ties"


@pytest.mark.nightly
def test_loo_stable_is_a_stable_sort_by_time_on_movielens_100k() -> None:
    table = load_events("ml-100k")
    assert parts_of(split(table, EvaluationSettings(k_core=0, protocol="loo-stable"))) == stably_left_out(table)


def test_temporal_asks_for_the_last_event_or_for_each_one_with_all_earlier_events_as_the_history() -> None:
    table = pd.DataFrame({"user_id": [1] * 6 + [2] * 4, "item_id": range(10), "timestamp": [0, 1, 2, 3, 20, 21, 4, 22, 23, 24]})
    table = table.assign(row=range(10))
    given: dict[str, Any] = {"k_core": 0, "protocol": "temporal", "temporal_valid_share": 0.1, "temporal_test_share": 0.3}

    def asked(**more: Any) -> list[tuple[int, list[int], int, int]]:
        parts = split(table, EvaluationSettings(**given, **more))
        assert parts.train.item_ids.tolist() == [0, 1, 2, 3, 4, 6], "the target changes nothing in the train part"
        found = parts.test
        rows = range(len(found))
        return [(int(found.user_ids[n]), history(found, n), int(found.targets[n]), int(found.request_times[n])) for n in rows]

    assert asked() == [(2, [6], 7, 22)]
    assert asked(temporal_target="last") == [(2, [6, 7, 8], 9, 24)]
    assert asked(temporal_target="successive") == [(2, [6], 7, 22), (2, [6, 7], 8, 23), (2, [6, 7, 8], 9, 24)]
    assert [time for *_, time in asked(temporal_target="successive", query_time="last")] == [4, 22, 23]
    twin = EvaluationSettings(**given, temporal_target="last", query_time="last")
    assert twin.protocol_id.endswith(";temporal_target=last;request_time=last") and "target" not in twin.train_id


@given(events_to_leave_out(), st.sampled_from(["loo-exact", "loo-stable"]))
def test_a_refit_learns_what_is_held_out_too_and_the_requests_stay(events: Events, protocol: str) -> None:
    table, settings = frame(events), EvaluationSettings(k_core=0, protocol=protocol)  # type: ignore[arg-type]
    whole, parts = split(table, settings, whole=True), split(table, settings)
    learnt = set(zip(whole.train.user_ids[whole.train.row_of_event].tolist(), whole.train.item_ids.tolist(), strict=True))
    assert learnt == set(zip(table["user_id"].tolist(), table["item_id"].tolist(), strict=True))
    assert whole.test.targets.tolist() == parts.test.targets.tolist() and whole.id == parts.id


def test_a_refit_knows_the_items_that_came_after_the_temporal_cut() -> None:
    table = pd.DataFrame({"user_id": [1] * 8 + [2, 2], "item_id": [*range(8), 1, 99], "timestamp": [*range(8), 8, 9]})
    settings = EvaluationSettings(k_core=0, protocol="temporal")
    assert 99 not in split(table, settings).catalogue
    assert 99 in split(table, settings, whole=True).catalogue and 99 in split(table, settings, whole=True).train.item_ids


@given(events_to_leave_out(users=2), OTHERS)
def test_ids_that_are_far_apart_are_split_like_close_ones(events: Events, others: Events) -> None:
    table = frame(events + others)
    far = table.assign(user_id=table["user_id"] * 10**15, item_id=table["item_id"] * 10**15)
    settings = EvaluationSettings(k_core=2, protocol="loo-recbole")  # which does not order by a hash of the ids
    first, second = split(table, settings), split(far, settings)
    assert first.counts == second.counts and (first.catalogue * 10**15 == second.catalogue).all()
    for a, b in ((first.train, second.train), (first.valid, second.valid), (first.test, second.test)):
        assert (a.user_ids * 10**15 == b.user_ids).all() and (a.item_ids * 10**15 == b.item_ids).all()


@given(events_to_leave_out(), OTHERS)
def test_other_users_events_change_nothing_for_a_user(events: Events, others: Events) -> None:
    table = frame(events)
    first, second = split(table, EXACT), split(frame(events + others), EXACT)
    rows = np.searchsorted(second.test.user_ids, first.test.user_ids)
    assert (second.test.user_ids[rows] == first.test.user_ids).all()
    assert (second.test.take(rows).item_ids == first.test.item_ids).all()
    assert (second.test.targets[rows] == first.test.targets).all()


@given(EVENTS)
def test_what_happens_after_the_temporal_test_cut_leaves_no_trace(events: Events) -> None:
    table = frame(events)
    first = split_or_reject(table, TEMPORAL)
    cut = first.test.request_times.min()
    after = table["timestamp"] >= cut
    other = table.assign(item_id=table["item_id"].where(~after, table["item_id"] + 50))
    second = split(other, TEMPORAL)
    for a, b in ((first.train, second.train), (first.valid, second.valid), (first.test, second.test)):
        assert (a.user_ids == b.user_ids).all() and (a.offsets == b.offsets).all() and (a.item_ids == b.item_ids).all()
    assert (first.catalogue == second.catalogue).all() and (first.valid.targets == second.valid.targets).all()


def test_which_protocols_mask_seen_items() -> None:
    table = synthetic.interactions(20, 30, 12)
    by_protocol = {
        name: split(table.assign(row=np.arange(len(table))), EvaluationSettings(k_core=0, protocol=name))
        for name in ("loo-exact", "loo-recbole", "loo-stable", "temporal")
    }
    assert {name: (p.masks_seen(True), p.masks_seen(False)) for name, p in by_protocol.items()} == {
        "loo-exact": (True, True),
        "loo-recbole": (False, True),
        "loo-stable": (True, True),
        "temporal": (True, True),
    }


def test_seen_items_stay_in_the_ranking_where_repeats_are_kept_and_the_protocol_says_so() -> None:
    items = np.array([7, 8, 7, 9, 7, 7])
    repeated = pd.DataFrame({"user_id": 1, "item_id": items, "timestamp": 1000 * np.arange(6), "row": np.arange(6)})
    for protocol in ("loo-exact", "loo-recbole"):
        parts = split(repeated, EvaluationSettings(k_core=0, protocol=protocol), repeats="keep")
        assert parts.id == f"{protocol};k_core=0;repeats=keep" and not parts.masks_seen(True) and not parts.masks_seen(False)
        assert parts.test.targets.tolist() == [7] and history(parts.test, 0) == [7, 8, 7, 9, 7]
        ranked = rank_requests(_Last(), parts.test, parts.catalogue, mask_seen=parts.masks_seen(True), batch_size=8)
        assert ranked.ranks.tolist() == [1]


def test_weights_stay_with_their_events_in_the_train_part() -> None:
    table = synthetic.interactions(10, 20, 8).assign(row=lambda found: np.arange(len(found)))
    weighted = table.assign(weight=table["item_id"] / 4 + table["user_id"])
    for protocol in ("loo-exact", "temporal"):
        settings = EvaluationSettings(k_core=2, protocol=protocol)
        plain, train = split(table, settings).train, split(weighted, settings).train
        assert plain.weights is None and plain.relative_weights is None
        assert train.weights is not None and train.weights.dtype == np.float32
        assert train.weights.tolist() == (train.item_ids / 4 + train.user_ids[train.row_of_event]).tolist()
        assert train.relative_weights is not None and train.relative_weights.mean() == pytest.approx(1, rel=1e-5)
        assert np.array_equal(train.item_ids, plain.item_ids)


class _Last(Recommender):
    """Scores the item of the last event highest."""

    name, sequential = "last", True
    catalogue = np.array([7, 8, 9])

    def fit(self, *_: object, **__: object) -> FitReport:
        return FitReport()

    def scores(self, requests: Requests) -> torch.Tensor:
        return torch.from_numpy((self.catalogue == requests.item_ids[requests.offsets[1:] - 1][:, None]).astype(np.float32))

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> _Last:
        return cls()

    def settings(self) -> dict[str, object]:
        return {}


def test_a_k_core_that_leaves_nobody_is_refused() -> None:
    for protocol in ("loo-exact", "temporal"):
        with pytest.raises(DataRefusedError, match=r"50-core leaves nothing.*evaluation\.k_core"):
            split(synthetic.interactions(10, 30, 8), EvaluationSettings(k_core=50, protocol=protocol))


def test_leave_one_out_needs_users_with_three_events() -> None:
    table = pd.DataFrame({"user_id": range(9), "item_id": 1, "timestamp": range(9)})
    with pytest.raises(DataRefusedError, match="users with at least 3 events"):
        split(table, EXACT)


def test_an_empty_temporal_part_is_refused() -> None:
    table = pd.DataFrame({"user_id": [1, 2, 3], "item_id": 1, "timestamp": [5, 5, 5]})
    with pytest.raises(DataRefusedError, match=r"leaves nothing|no events to validate"):
        split(table, EvaluationSettings(k_core=0, protocol="temporal"))
    with pytest.raises(DataRefusedError, match="no interactions"):
        split(table[:0], EvaluationSettings(k_core=0, protocol="temporal"))
    late = pd.DataFrame({"user_id": [1, 2, 3, 4], "item_id": 1, "timestamp": [1, 5, 5, 5]})
    with pytest.raises(DataRefusedError, match="no events to validate"):
        split(late, EvaluationSettings(k_core=0, protocol="temporal"))


@pytest.mark.parametrize(
    "wrong",
    [{"ks": (5, 20)}, {"ks": (0, 10)}, {"ks": (10, 10)}, {"ks": ()}, {"temporal_valid_share": 0.6, "temporal_test_share": 0.4}],
)
def test_settings_that_make_judging_impossible_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"must be distinct and include 10|greater than or equal to 1|must be below 1"):
        EvaluationSettings(**wrong)  # type: ignore[arg-type]
