from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.ingest import build_features
from tasks.ingest.features import FEATURE_COLUMNS, SESSION_GAP_S, earlier_events, write_features
from tasks.ingest.merge import deduplicate_latest

EVENTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(10**9, 10**9 + 10_000)), min_size=1, max_size=40)


def frame(events: list[tuple[int, int, int]]) -> pd.DataFrame:
    table = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]).assign(rating=3.0)
    return table.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True)


def test_the_features_of_a_day_of_one_user() -> None:
    start = 1_000_000_000  # Sunday 2001-09-09 01:46:40 UTC
    found = build_features(frame([(7, 50, start), (7, 30, start), (7, 60, start + 100), (7, 20, start + 101 + SESSION_GAP_S)]))
    assert list(found.columns) == FEATURE_COLUMNS
    assert list(found["gap_s"]) == [-1, 0, 100, SESSION_GAP_S + 1]
    assert list(found["session_id"]) == [0, 0, 0, 1]
    assert list(found["user_events_before"]) == [0, 0, 2, 3]
    assert list(found["item_idx"]) == [1, 2, 3, 0] and set(found["user_idx"]) == {0}
    first = found.iloc[0]
    assert (first["rating_year"], first["rating_month"], first["rating_weekday"], first["rating_hour"]) == (2001, 9, 6, 1)
    assert pd.Timestamp(0) + pd.Timedelta(days=int(first["rating_date"])) == pd.Timestamp("2001-09-09")


@given(EVENTS)
def test_counts_before_an_event_equal_a_plain_count(events: list[tuple[int, int, int]]) -> None:
    found = build_features(frame(events))
    for row in found.itertuples():
        earlier = found[found["timestamp"] < row.timestamp]
        assert row.user_events_before == (earlier["user_id"] == row.user_id).sum()
        assert row.item_events_before == (earlier["item_id"] == row.item_id).sum()


@given(EVENTS, st.integers(10**9, 10**9 + 10_000), st.integers(1, 50))
@settings(max_examples=40)
def test_events_after_a_row_change_none_of_its_features(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], now: int, memory_rows: int
) -> None:
    """Features do not depend on later events, in memory or in pieces."""
    columns = [name for name in FEATURE_COLUMNS if not name.endswith("_idx")]  # the indices depend on the whole table
    past = [event for event in events if event[2] <= now]
    alone = build_features(frame(past))[columns]
    among = build_features(frame(events))[columns]
    pd.testing.assert_frame_equal(alone, among[among["timestamp"] <= now].reset_index(drop=True))
    folder = tmp_path_factory.mktemp("features")
    frame(events).to_parquet(folder / "events.parquet", index=False)
    write_features(folder / "events.parquet", folder / "features.parquet", memory_rows=memory_rows)
    pieces = pd.read_parquet(folder / "features.parquet", columns=columns)
    pd.testing.assert_frame_equal(alone, pieces[pieces["timestamp"] <= now].reset_index(drop=True))


@given(EVENTS, st.integers(1, 50))
@settings(max_examples=40)
def test_pieces_have_the_features_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], memory_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("features")
    frame(events).to_parquet(folder / "events.parquet", index=False)
    seen: list[pd.DataFrame] = []
    users, movies = write_features(folder / "events.parquet", folder / "out.parquet", memory_rows=memory_rows, check=seen.append)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "out.parquet"), build_features(frame(events)))
    pd.testing.assert_frame_equal(pd.concat(seen, ignore_index=True), frame(events))
    assert list(users) == sorted({event[0] for event in events}) and list(movies) == sorted({event[1] for event in events})
    assert sorted(path.name for path in folder.iterdir()) == ["events.parquet", "out.parquet"]


@given(st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=20))
def test_the_calendar_features_equal_those_of_pandas(times: list[int]) -> None:
    found = build_features(pd.DataFrame({"user_id": 1, "item_id": 1, "timestamp": sorted(times), "rating": 3.0}))
    expected = pd.to_datetime(pd.Series(sorted(times)).astype("datetime64[s]"))
    for name in ("year", "month", "weekday", "hour"):
        assert (found[f"rating_{name}"] == getattr(expected.dt, name)).all()


@given(EVENTS)
def test_a_session_has_no_long_gap_inside(events: list[tuple[int, int, int]]) -> None:
    found = build_features(frame([(user, movie, 10**9 + (time - 10**9) * 7) for user, movie, time in events]))
    for _, rows in found.groupby("user_id"):
        assert rows["session_id"].iloc[0] == 0
        steps = np.diff(rows["session_id"])
        assert (steps == (rows["gap_s"].to_numpy()[1:] > SESSION_GAP_S)).all()


def test_no_rows_make_no_features() -> None:
    empty = pd.DataFrame({"user_id": [], "item_id": [], "timestamp": [], "rating": []}, dtype=np.int64)
    assert len(build_features(empty)) == 0


def test_no_rows_make_an_empty_file_of_features(tmp_path: Path) -> None:
    frame([]).to_parquet(tmp_path / "events.parquet", index=False)
    users, movies = write_features(tmp_path / "events.parquet", tmp_path / "out.parquet", memory_rows=5)
    assert len(users) == len(movies) == len(pd.read_parquet(tmp_path / "out.parquet")) == 0


RERATED = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(10**9, 10**9 + 12_000)), min_size=1, max_size=40)


def settled(events: list[tuple[int, int, int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The events that count, and those that they supersede."""
    return deduplicate_latest(frame(events).assign(row=0, file=0))


@pytest.mark.full
@given(RERATED, st.integers(10**9, 10**9 + 12_000), st.integers(1, 50))
@example([(1, 1, 10**9), (1, 1, 10**9 + 1), (1, 2, 10**9)], 10**9, 1)  # the superseded event shares its second with another
@settings(max_examples=60)
def test_a_correction_changes_no_feature_of_earlier_rows(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], now: int, memory_rows: int
) -> None:
    """What was known at any moment is the same with and without later corrections, in memory and in pieces."""
    columns = [name for name in FEATURE_COLUMNS if not name.endswith("_idx")]
    kept, lost = settled(events)
    among = build_features(kept, lost)
    past = [event for event in events if event[2] <= now]
    if past:
        then_kept, then_lost = settled(past)
        then = build_features(then_kept, then_lost)[columns]
        both = then.merge(among[["user_id", "item_id", "timestamp"]], on=["user_id", "item_id", "timestamp"])
        still = among[among["timestamp"] <= now][columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(both[columns], still)
    folder = tmp_path_factory.mktemp("features")
    kept.to_parquet(folder / "events.parquet", index=False)
    write_features(
        folder / "events.parquet", folder / "features.parquet", memory_rows=memory_rows, superseded=earlier_events(lost, [kept])
    )
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "features.parquet"), among)


@pytest.mark.full
@given(RERATED)
def test_superseded_events_count_for_the_rows_after_them(events: list[tuple[int, int, int]]) -> None:
    kept, lost = settled(events)
    happened = frame(list(set(events)))
    for row in build_features(kept, lost).itertuples():
        earlier = happened[happened["timestamp"] < row.timestamp]
        own = earlier[earlier["user_id"] == row.user_id]
        assert row.user_events_before == len(own) and row.item_events_before == (earlier["item_id"] == row.item_id).sum()
        same = happened[(happened["user_id"] == row.user_id) & (happened["timestamp"] == row.timestamp)]
        if len(same) == 1:
            assert row.gap_s == (row.timestamp - own["timestamp"].max() if len(own) else -1)


def test_a_rating_given_again_leaves_the_rows_before_it_as_they_were() -> None:
    kept, lost = settled([(1, 1, 1000), (1, 2, 3000), (1, 1, 9000)])
    found = build_features(kept, lost)
    assert list(found["timestamp"]) == [3000, 9000]
    assert list(found["gap_s"]) == [2000, 6000] and list(found["user_events_before"]) == [1, 2]
    assert list(found["session_id"]) == [1, 2]


def test_an_event_that_was_delivered_twice_counts_once() -> None:
    kept, lost = settled([(1, 1, 1000), (1, 1, 1000), (1, 2, 3000)])
    pd.testing.assert_frame_equal(build_features(kept, lost), build_features(kept))
