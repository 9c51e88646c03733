"""The generator keeps its promises: exact sizes, no pair twice, enough events of each user, and published marginals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pipeline.synthetic_events import (
    FIRST,
    LAST,
    MIN_EVENTS,
    PUBLISHED,
    events,
    marginals,
    scaled,
    sequences,
    write_csv,
)


@settings(max_examples=15, deadline=None)
@given(st.integers(20, 6000), st.integers(0, 1000))
def test_tables_of_any_size_keep_the_promises(interactions: int, seed: int) -> None:
    users, items = scaled(interactions)
    table = events(users, items, interactions, seed)
    assert len(table) == interactions
    pairs = table.user_id * 1_000_000 + table.item_id
    assert len(np.unique(pairs)) == interactions
    counts = np.bincount(table.user_id)[1:]
    assert len(counts) == users and counts.min() >= MIN_EVENTS
    same_user = np.diff(table.user_id) == 0
    assert (np.diff(table.user_id) >= 0).all() and (np.diff(table.timestamp)[same_user] >= 0).all()
    assert table.timestamp.min() >= FIRST and table.timestamp.max() <= LAST
    assert np.isin(table.rating, np.arange(1, 11) / 2).all()


def test_the_same_seed_gives_the_same_table_and_another_seed_another() -> None:
    first, again, other = (events(200, 400, 8000, seed) for seed in (1, 1, 2))
    assert (first.item_id == again.item_id).all() and (first.timestamp == again.timestamp).all()
    assert not (first.item_id == other.item_id).all()


def test_a_table_of_medium_size_has_the_shape_of_movielens() -> None:
    users, items = scaled(400_000)
    found = marginals(events(users, items, 400_000, 0))
    assert abs(found["top_tenth_of_items_share"] - PUBLISHED["top_tenth_of_items_share"]) < 0.25
    assert found["items_gini"] > 0.75
    assert found["events_per_user_mean"] > 1.5 * found["events_per_user_median"]
    for reached, published in zip(found["rating_shares"], PUBLISHED["rating_shares"], strict=True):
        assert abs(reached - published) < 0.01


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 10 users"):
        events(10, 100, 50)
    with pytest.raises(ValueError, match="fewer than the 20"):
        scaled(3)


def test_the_csv_reads_back_as_movielens_writes_it(tmp_path: Path) -> None:
    table = events(20, 200, 800, 0)
    write_csv(table, tmp_path / "ratings.csv", chunk_rows=300)
    text = (tmp_path / "ratings.csv").read_text()
    assert text.startswith("userId,movieId,rating,timestamp\n") and list(tmp_path.iterdir()) == [tmp_path / "ratings.csv"]
    read = pd.read_csv(tmp_path / "ratings.csv")
    assert (read["userId"] == table.user_id).all() and (read["movieId"] == table.item_id).all()
    assert (read["rating"] == table.rating).all() and (read["timestamp"] == table.timestamp).all()
    assert "4.0" in text


def test_sequences_keep_every_event_of_every_user() -> None:
    table = events(30, 200, 900, 3)
    found = sequences(table)
    assert len(found) == 30 and (found.item_ids == table.item_id).all()
    assert (found.user_ids[found.row_of_event] == table.user_id).all()
