from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tasks.features import FEATURE_COLUMNS, SESSION_GAP_S, build_features

EVENTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(10**9, 10**9 + 10_000)), min_size=1, max_size=40)


def frame(events: list[tuple[int, int, int]]) -> pd.DataFrame:
    table = pd.DataFrame(events, columns=["user_id", "movie_id", "timestamp"]).assign(rating=3.0)
    return table.sort_values(["user_id", "timestamp", "movie_id"]).reset_index(drop=True)


def test_a_day_of_one_user() -> None:
    start = 1_000_000_000  # Sunday 2001-09-09 01:46:40 UTC
    found = build_features(frame([(7, 50, start), (7, 30, start), (7, 60, start + 100), (7, 20, start + 101 + SESSION_GAP_S)]))
    assert list(found.columns) == FEATURE_COLUMNS
    assert list(found["gap_s"]) == [-1, 0, 100, SESSION_GAP_S + 1]
    assert list(found["session_id"]) == [0, 0, 0, 1]
    assert list(found["user_events_before"]) == [0, 0, 2, 3]
    assert list(found["movie_idx"]) == [1, 2, 3, 0] and set(found["user_idx"]) == {0}
    first = found.iloc[0]
    assert (first["rating_year"], first["rating_month"], first["rating_weekday"], first["rating_hour"]) == (2001, 9, 6, 1)
    assert pd.Timestamp(0) + pd.Timedelta(days=int(first["rating_date"])) == pd.Timestamp("2001-09-09")


@given(EVENTS)
def test_counts_before_an_event_equal_a_plain_count(events: list[tuple[int, int, int]]) -> None:
    found = build_features(frame(events))
    for row in found.itertuples():
        earlier = found[found["timestamp"] < row.timestamp]
        assert row.user_events_before == (earlier["user_id"] == row.user_id).sum()
        assert row.movie_events_before == (earlier["movie_id"] == row.movie_id).sum()


@given(EVENTS, EVENTS)
def test_no_feature_knows_the_future(past: list[tuple[int, int, int]], later: list[tuple[int, int, int]]) -> None:
    future = [(user, movie, time + 20_000) for user, movie, time in later]
    columns = [name for name in FEATURE_COLUMNS if not name.endswith("_idx")]
    alone = build_features(frame(past))[columns]
    among = build_features(frame(past + future))[columns]
    among = among[among["timestamp"] < 10**9 + 15_000].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among)


@given(EVENTS)
def test_a_session_has_no_long_gap_inside(events: list[tuple[int, int, int]]) -> None:
    found = build_features(frame([(user, movie, 10**9 + (time - 10**9) * 7) for user, movie, time in events]))
    for _, rows in found.groupby("user_id"):
        assert rows["session_id"].iloc[0] == 0
        steps = np.diff(rows["session_id"])
        assert (steps == (rows["gap_s"].to_numpy()[1:] > SESSION_GAP_S)).all()


def test_no_rows_make_no_features() -> None:
    empty = pd.DataFrame({"user_id": [], "movie_id": [], "timestamp": [], "rating": []}, dtype=np.int64)
    assert len(build_features(empty)) == 0
