"""Each metric of the lists equals a plain loop over its definition."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import Ranking, genres_of, list_metric_intervals, list_metrics
from models.evaluation.beyond_accuracy import Genres, per_list, per_list_intervals
from models.evaluation.ranking import head_items
from models.recommender import Requests, Sequences

CATALOGUE = np.array([2, 3, 5, 7, 11, 13, 17])
GENRE_NAMES = ("Action", "Comedy", "Drama")


def sequences(rows: list[list[int]]) -> Sequences:
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(np.arange(len(rows)), offsets, items, np.zeros(len(items), dtype=np.int64))


def requests(rows: list[list[int]]) -> Requests:
    plain = sequences(rows)
    zeros = np.zeros(len(rows), dtype=np.int64)
    return Requests(plain.user_ids, plain.offsets, plain.item_ids, plain.timestamps, request_times=zeros, targets=zeros)


def ranking(lists: list[list[int]], width: int = 4) -> Ranking:
    top = np.full((len(lists), width), -1, dtype=np.int32)
    for row, shown in enumerate(lists):
        top[row, : len(shown)] = shown
    users = np.arange(len(lists))
    return Ranking(users, users, users + 1, CATALOGUE, top)


def genres(sets: dict[int, set[str]]) -> Genres:
    ids = np.array(sorted(sets), dtype=np.int64)
    return Genres(ids, GENRE_NAMES, np.array([[name in sets[int(i)] for name in GENRE_NAMES] for i in ids], dtype=bool))


COLUMNS = st.lists(st.integers(0, 6), max_size=4, unique=True)
SETS = st.fixed_dictionaries({int(item): st.sets(st.sampled_from(GENRE_NAMES)) for item in CATALOGUE})
HISTORY = st.lists(st.sampled_from([*CATALOGUE.tolist(), 99]), max_size=6)  # 99 is an unknown item


@given(st.lists(COLUMNS, min_size=1, max_size=6), st.lists(HISTORY, min_size=1, max_size=5))
def test_popularity_novelty_tail_coverage_and_gini_equal_plain_loops(lists: list[list[int]], events: list[list[int]]) -> None:
    train = sequences([*events, [2]])
    found = list_metrics(ranking(lists), train)
    counts = {int(item): train.item_ids.tolist().count(item) for item in CATALOGUE}
    total = sum(counts.values()) + len(counts)
    head = set(head_items(train).tolist())
    full = [[int(CATALOGUE[column]) for column in shown] for shown in lists if shown]

    def over_lists(value: Any) -> float:
        return sum(sum(value(item) for item in shown) / len(shown) for shown in full) / len(full)

    flat = [item for shown in full for item in shown]
    assert found["coverage@10"] == pytest.approx(len(set(flat)) / 7)
    if not full:
        assert found == {"coverage@10": 0.0, "gini@10": 1.0}
        return
    assert found["popularity@10"] == pytest.approx(over_lists(lambda item: counts[item]))
    assert found["novelty@10"] == pytest.approx(over_lists(lambda item: -math.log2((counts[item] + 1) / total)))
    assert found["tail@10"] == pytest.approx(over_lists(lambda item: item not in head))
    times = [flat.count(item) for item in CATALOGUE]
    differences = sum(abs(a - b) for a in times for b in times)  # Gini's mean difference
    assert found["gini@10"] == pytest.approx(differences / (2 * 7 * sum(times)))


@given(st.lists(COLUMNS, min_size=1, max_size=6), SETS)
def test_diversity_equals_the_mean_distance_of_pairs_with_genres(lists: list[list[int]], sets: dict[int, set[str]]) -> None:
    found = per_list(ranking(lists), sequences([[2]]), None, genres(sets)).get("diversity@10", np.full(len(lists), np.nan))
    for shown, value in zip(lists, found, strict=True):
        described = [sets[int(CATALOGUE[column])] for column in shown if sets[int(CATALOGUE[column])]]
        distances = [1 - len(a & b) / len(a | b) for a, b in itertools.combinations(described, 2)]
        assert value == pytest.approx(sum(distances) / len(distances), abs=1e-6) if distances else np.isnan(value)


@given(st.lists(st.tuples(COLUMNS, HISTORY), min_size=1, max_size=6), SETS)
def test_miscalibration_equals_stecks_formula(rows: list[tuple[list[int], list[int]]], sets: dict[int, set[str]]) -> None:
    lists, histories = [list(part) for part in zip(*rows, strict=True)]
    found = per_list(ranking(lists), sequences([[2]]), requests(histories), genres(sets))
    values = found.get("miscalibration@10", np.full(len(rows), np.nan))

    def mix(items: list[int]) -> dict[str, float]:
        described = [sets[item] for item in items if sets.get(item)]
        return {name: sum((name in own) / len(own) for own in described) / len(described) if described else math.nan for name in GENRE_NAMES}  # fmt: skip

    for shown, history, value in zip(lists, histories, values, strict=True):
        p, q = mix(history), mix([int(CATALOGUE[column]) for column in shown])
        smooth = {name: 0.99 * q[name] + 0.01 * p[name] for name in GENRE_NAMES}
        expected = sum(p[name] * math.log(p[name] / smooth[name]) if p[name] > 0 else 0.0 for name in GENRE_NAMES)
        if any(math.isnan(part) for part in smooth.values()):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(expected) and value >= -1e-12


def test_a_list_like_the_history_is_calibrated_and_one_of_other_genres_is_not() -> None:
    sets = {2: {"Action"}, 3: {"Comedy"}, 5: {"Action"}, 7: {"Comedy"}, 11: {"Drama"}, 13: set(), 17: set()}
    lists, histories = [[0, 1], [0, 1, 5], [4]], [[5, 7], [5, 7, 13, 99], [5, 7]]
    values = per_list(ranking(lists), sequences([[2]]), requests(histories), genres(sets))["miscalibration@10"]
    assert values[:2] == pytest.approx([0, 0]) and values[2] == pytest.approx(math.log(100))


def test_without_genres_their_metrics_are_absent() -> None:
    lists, train, asked = ranking([[0, 1], [2, 3]]), sequences([[2, 3]]), requests([[2], [3]])
    plain = {"coverage@10", "gini@10", "novelty@10", "popularity@10", "tail@10"}
    assert set(list_metrics(lists, train, asked)) == plain
    none = genres({item: set() for item in CATALOGUE.tolist()})
    assert set(list_metrics(lists, train, asked, none)) == plain
    some = genres({item: {"Drama"} for item in CATALOGUE.tolist()})
    assert set(list_metrics(lists, train, asked, some)) == plain | {"diversity@10", "miscalibration@10"}
    assert set(list_metrics(lists, train, requests([[], []]), some)) == plain | {"diversity@10"}


def test_genres_are_read_from_the_items_table() -> None:
    names = ["Drama|Comedy", "", "unknown", "Drama"]
    table = pd.DataFrame({"item_id": [7, 3, 5, 2], "genres": pd.array(names, dtype="string")})
    found = genres_of(table)
    assert found is not None and found.names == ("Comedy", "Drama") and found.item_ids.tolist() == [2, 3, 5, 7]
    assert found.of(np.array([7, 5, 4, 2])).tolist() == [[1, 1], [0, 0], [0, 0], [0, 1]]
    assert genres_of(table.assign(genres="")) is None and genres_of(table.assign(genres="unknown")) is None
    assert genres_of(table.head(0)) is None


def test_intervals_match_the_plain_formula_and_ignore_missing_values() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, 2000)
    gaps = np.append(values, [np.nan] * 50)
    low, high = per_list_intervals({"novelty@10": gaps}, resamples=4000, seed=1)["novelty@10"]
    spread = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - spread, rel=0.01) and high == pytest.approx(values.mean() + spread, rel=0.01)
    assert per_list_intervals({"tail@10": np.full(9, 0.25)}, resamples=200, seed=1) == {"tail@10": (0.25, 0.25)}


def test_values_and_intervals_belong_to_the_same_lists() -> None:
    lists, train, asked = ranking([[0, 1, 2], [3, 4], []]), sequences([[2, 2, 3, 5]]), requests([[2], [3], [5]])
    sets = genres({2: {"Action"}, 3: {"Comedy", "Drama"}, 5: {"Action", "Drama"}, 7: {"Drama"}, 11: {"Comedy"}})
    values, intervals = list_metric_intervals(lists, train, asked, sets, resamples=500, seed=0)
    assert values == list_metrics(lists, train, asked, sets)
    assert set(intervals) == set(values) - {"coverage@10", "gini@10"}
    assert all(low - 1e-9 <= values[name] <= high + 1e-9 for name, (low, high) in intervals.items())


def test_the_head_takes_equally_popular_items_from_the_greatest_id_down() -> None:
    assert head_items(sequences([[2, 3, 5, 7]])).tolist() == [7, 5]
    assert head_items(sequences([[2, 2, 2, 3, 5]])).tolist() == [2]
