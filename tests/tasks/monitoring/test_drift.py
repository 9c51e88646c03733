from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import DataRefusedError, VersionCorruptError
from configs.settings import DriftSettings
from tasks.datasets import Quarantine
from tasks.ingest import build_features
from tasks.monitoring import DriftResult, reference_of
from tasks.monitoring import reference as drift_reference
from tasks.monitoring.checks import Check
from tasks.monitoring.drift import Reference, Window, detect_drift, newest_slice, window_of
from tasks.monitoring.reference import LEAST_USERS, ROWS_OF_A_USER, capped_by_user, history_of
from tests import synthetic

SETTINGS = DriftSettings(alpha=0.03, resamples=800)
WEEK = 7 * 86_400
CUT = synthetic.START + 30 * WEEK


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    """700 users who arrive at random over 40 weeks."""
    frame = synthetic.interactions(700, 60, 40)
    popular = np.random.default_rng(0).random(len(frame)) < 6 / (frame["item_id"] - 94)  # a head and a long tail
    frame = frame[popular]
    frame["timestamp"] += frame["user_id"].map(pd.Series(np.random.default_rng(1).integers(0, 40, 701))) * WEEK
    return build_features(frame.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True))


@pytest.fixture(scope="module")
def items(features: pd.DataFrame) -> pd.DataFrame:
    return synthetic.movies(features)


@pytest.fixture(scope="module")
def halves(features: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    users = features["user_id"].unique()
    first = features["user_id"].isin(np.random.default_rng(3).permutation(users)[: len(users) // 2])
    return features[first], features[~first]


@pytest.fixture(scope="module")
def reference(halves: tuple[pd.DataFrame, pd.DataFrame], items: pd.DataFrame) -> Reference:
    return reference_of(halves[0], items, SETTINGS, 0, Quarantine(4000, 8))


def check(result: DriftResult, name: str) -> Check:
    return next(found for found in result.checks if found.name == name)


def drifted(reference: Reference, current: pd.DataFrame, items: pd.DataFrame) -> set[str]:
    return set(detect_drift(reference, current, items, SETTINGS).result.drifted)


@pytest.mark.parametrize("users", [40, 150, 350])
def test_slices_of_other_users_of_one_distribution_are_stable(
    users: int, halves: tuple[pd.DataFrame, pd.DataFrame], reference: Reference, items: pd.DataFrame
) -> None:
    current = halves[1][halves[1]["user_id"].isin(halves[1]["user_id"].unique()[:users])]
    result = detect_drift(reference, current, items, SETTINGS).result
    assert result.verdict == "stable" and result.reasons == [] and result.users == users
    judged = {found.name for found in result.checks if found.verdict == "stable"}
    assert judged == {
        "rating", "seconds between events (log)", "popularity of films (rank)", "events of a session (log)", "genre", "hour",
        "weekday", "unseen films", "concentration on films",
    }  # fmt: skip
    unjudged = {found.name: found.detail for found in result.checks if found.verdict == "not judged"}
    assert set(unjudged) == {"volume", "freshness", "new users", "quarantine"}
    assert "not a window of time" in unjudged["volume"] and "slice came in" in unjudged["quarantine"]
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("shift", "name"),
    [
        (lambda f: f.assign(rating=f["rating"] * 2), "rating"),
        (lambda f: f.assign(gap_s=np.where(f["gap_s"] < 0, -1, 1)), "seconds between events (log)"),
        (lambda f: f.assign(item_id=101), "popularity of films (rank)"),
        (lambda f: f.assign(item_id=101), "genre"),
        (lambda f: f.assign(rating_hour=3), "hour"),
        (lambda f: f.assign(rating_weekday=0), "weekday"),
        (lambda f: f.assign(session_id=np.arange(len(f))), "events of a session (log)"),
        (lambda f: f.assign(item_id=f["item_id"].where(f["item_id"] > 104, 999)), "unseen films"),
        (lambda f: f.assign(item_id=f["item_id"] % 3 + 100), "concentration on films"),
    ],
)
def test_a_shift_is_found_and_named(
    shift: Callable[[pd.DataFrame], pd.DataFrame],
    name: str,
    halves: tuple[pd.DataFrame, pd.DataFrame],
    reference: Reference,
    items: pd.DataFrame,
) -> None:
    result = detect_drift(reference, shift(halves[1]), items, SETTINGS).result
    assert result.verdict == "drifted" and name in result.drifted
    assert any(reason.startswith(name) for reason in result.reasons)


def test_a_tiny_shift_in_a_large_slice_is_significant_but_not_drift(
    features: pd.DataFrame, halves: tuple[pd.DataFrame, pd.DataFrame], items: pd.DataFrame
) -> None:
    rng = np.random.default_rng(5)
    flat = features.assign(rating=rng.integers(1, 6, len(features)).astype(float))
    first = flat["user_id"].isin(halves[0]["user_id"])
    before = reference_of(flat[first], items, SETTINGS, 0)
    moved = flat[~first].assign(rating=flat["rating"] + 0.16)
    found = check(detect_drift(before, moved, items, SETTINGS).result, "rating")
    assert found.adjusted_p is not None and found.adjusted_p <= SETTINGS.alpha and found.verdict == "stable"
    strict = SETTINGS.model_copy(update={"max_column_distance": 0.05})
    assert "rating" in detect_drift(before, moved, items, strict).result.drifted


def test_one_user_raises_no_alarm_however_strange(features: pd.DataFrame, reference: Reference, items: pd.DataFrame) -> None:
    """The test of chance counts 400 events of one user as one observation."""
    strange = pd.concat([features[features["user_id"] == 1]] * 25).assign(rating=0.5, rating_hour=3, rating_weekday=1)
    exact = DriftSettings(resamples=1500)
    result = detect_drift(reference, strange.assign(session_id=0), items, exact).result
    assert result.rows >= 200 and result.users == 1 and result.verdict == "stable"
    assert check(result, "rating").effect > exact.max_column_distance  # type: ignore[operator]


def test_a_wave_of_a_genre_that_is_never_listed_first_is_seen(
    halves: tuple[pd.DataFrame, pd.DataFrame], reference: Reference, items: pd.DataFrame
) -> None:
    wave = items.assign(genres=items["genres"].where(items["item_id"] % 2 == 0, items["genres"] + "|War|Western"))
    assert drifted(reference, halves[1], wave) == {"genre"}


def test_items_that_a_small_reference_had_to_miss_are_not_drift(features: pd.DataFrame) -> None:
    """If most items occur once, another sample consists mostly of new ones (Good-Turing)."""
    rng = np.random.default_rng(0)
    many = features[features["user_id"] < 300]
    many = many.assign(item_id=rng.integers(1, 4000, len(many)))
    items = pd.DataFrame({"item_id": np.arange(1, 4000), "genres": "Drama"})
    first = many["user_id"] < 150
    result = detect_drift(reference_of(many[first], items, SETTINGS, 0), many[~first], items, SETTINGS).result
    found = check(result, "unseen films")
    assert found.current is not None and found.reference is not None and found.current > 0.5
    assert abs(found.current - found.reference) < 0.1 and result.verdict == "stable"


@pytest.mark.parametrize("column", ["rating", "gap_s", "item_id", "timestamp"])
@pytest.mark.parametrize("side", ["slice", "reference"])
def test_one_outlier_of_a_billion_neither_raises_nor_hides_an_alarm(
    column: str, side: str, features: pd.DataFrame, items: pd.DataFrame
) -> None:
    older, newest = features[features["timestamp"] < CUT], features[features["timestamp"] >= CUT]

    def spoilt(frame: pd.DataFrame) -> pd.DataFrame:
        spoilt = frame.copy()
        spoilt.iloc[7, frame.columns.get_loc(column)] += 10**9  # type: ignore[index, operator]
        return spoilt

    before = reference_of(spoilt(older) if side == "reference" else older, items, SETTINGS, 0)
    now = spoilt(newest) if side == "slice" else newest
    window = window_of(older, newest)
    assert detect_drift(before, now, items, SETTINGS, window=window).result.verdict == "stable"
    shifted = now.assign(rating=now["rating"] * 2, gap_s=np.where(now["gap_s"] < 0, -1, 1))
    found = detect_drift(before, shifted, items, SETTINGS, window=window).result.drifted
    assert {"rating", "seconds between events (log)"} <= set(found)


def test_a_window_of_time_is_compared_with_past_windows(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, newest = features[features["timestamp"] < CUT], features[features["timestamp"] >= CUT]
    before, window = reference_of(older, items, SETTINGS, 0), window_of(older, newest)
    assert window is not None
    result = detect_drift(before, newest, items, SETTINGS, window=window).result
    assert result.verdict == "stable"
    assert {check(result, name).verdict for name in ("volume", "freshness", "new users")} == {"stable"}
    rare = newest[newest["user_id"] % 10 == 0]
    assert "volume" in detect_drift(before, rare, items, SETTINGS, window=window).result.drifted
    known = newest.assign(gap_s=newest["gap_s"].clip(lower=0))  # each user has been seen just before
    assert "new users" in detect_drift(before, known, items, SETTINGS, window=window).result.drifted
    hole = newest[newest["timestamp"] > CUT + 6 * WEEK]
    assert "freshness" in detect_drift(before, hole, items, SETTINGS, window=window).result.drifted


def test_a_slice_of_three_days_does_not_drift_just_because_it_has_three_weekdays(items: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(1500), 10)
    times = CUT + np.repeat(rng.integers(0, 20 * WEEK, 1500), 10) + np.tile(np.arange(10) * 60, 1500)
    films = np.concatenate([rng.permutation(60)[:10] + 100 for _ in range(1500)])
    feed = build_features(pd.DataFrame({"user_id": users, "item_id": films, "rating": 3.0, "timestamp": times}))
    end = CUT + 19 * WEEK
    older, days = feed[feed["timestamp"] < end], feed[(feed["timestamp"] >= end) & (feed["timestamp"] < end + 3 * 86_400)]
    before = reference_of(older, items, SETTINGS, 0)
    assert drifted(before, days, items) == {"weekday"}
    result = detect_drift(before, days, items, SETTINGS, window=window_of(older, days)).result
    assert result.verdict == "stable" and check(result, "weekday").verdict == "stable"


def test_descriptions_that_arrive_after_the_reference_are_not_a_change_of_taste(
    halves: tuple[pd.DataFrame, pd.DataFrame], items: pd.DataFrame
) -> None:
    before = reference_of(halves[0], items.head(0), SETTINGS, 0)
    assert drifted(before, halves[1], items) == set()
    assert drifted(before, halves[1].assign(item_id=int(items["item_id"].iloc[0])), items) >= {"genre"}


def test_a_feed_that_has_stopped_is_found_without_an_event(features: pd.DataFrame, items: pd.DataFrame) -> None:
    before, window = reference_of(features, items, SETTINGS, 0), window_of(features, features.head(0))
    assert window is not None
    nothing = features.head(0)
    soon = Window(window.start, window.start + 3600, window.known_users)
    result = detect_drift(before, nothing, items, SETTINGS, window=soon).result
    assert result.verdict == "too small to judge" and check(result, "freshness").verdict == "stable"
    late = Window(window.start, window.start + 20 * WEEK, window.known_users)
    result = detect_drift(before, nothing, items, SETTINGS, window=late).result
    assert result.verdict == "drifted" and result.drifted == ["volume", "freshness"] and result.causes == []
    assert "0 events per day" in result.reasons[0] and "hours without an event" in result.reasons[1]


def test_quarantined_rows_are_found_even_if_no_good_row_is_left(
    halves: tuple[pd.DataFrame, pd.DataFrame], reference: Reference, items: pd.DataFrame
) -> None:
    few = detect_drift(reference, halves[1], items, SETTINGS, quarantine=Quarantine(5000, 15)).result
    assert few.verdict == "stable" and check(few, "quarantine").detail.startswith(
        "15 of 5,000 rows, 0.3%, compared with 0.2% before"
    )
    assert detect_drift(reference, halves[1], items, SETTINGS, quarantine=Quarantine(5000, 400)).result.drifted == ["quarantine"]
    all_gone = detect_drift(reference, halves[1].head(0), items, SETTINGS, quarantine=Quarantine(5000, 5000)).result
    assert all_gone.drifted == ["quarantine"]


def test_a_small_slice_is_not_judged(
    halves: tuple[pd.DataFrame, pd.DataFrame], reference: Reference, items: pd.DataFrame
) -> None:
    measure = detect_drift(reference, halves[1].head(50), items, SETTINGS)
    assert measure.result.verdict == "too small to judge" and measure.compared is None and measure.result.drifted == []
    assert "50 rows" in measure.result.reasons[0]
    lonely = reference_of(halves[0][halves[0]["user_id"] < 30].assign(user_id=1, session_id=0), items, SETTINGS, 0)
    alone = detect_drift(lonely, halves[1], items, DriftSettings(min_rows=2)).result
    assert alone.verdict == "too small to judge" and "1 users" in alone.reasons[0]


@pytest.mark.parametrize("fault", ["missing", "empty", "infinite"])
def test_a_column_that_cannot_be_compared_is_named(
    fault: str, halves: tuple[pd.DataFrame, pd.DataFrame], reference: Reference, items: pd.DataFrame
) -> None:
    current = halves[1]
    broken = (
        current.drop(columns="rating") if fault == "missing" else current.assign(rating=np.nan if fault == "empty" else np.inf)
    )
    with pytest.raises(DataRefusedError, match="column rating"):
        detect_drift(reference, broken, items, SETTINGS)


def test_the_first_value_that_is_not_a_number_is_shown(
    halves: tuple[pd.DataFrame, pd.DataFrame], reference: Reference, items: pd.DataFrame
) -> None:
    words = halves[1].assign(rating=halves[1]["rating"].astype(object))
    words.iloc[7, words.columns.get_loc("rating")] = "five"  # type: ignore[index]
    with pytest.raises(DataRefusedError, match=r"has 1 of \d+ values that are not finite numbers, the first in row 7 \('five'\)"):
        detect_drift(reference, words, items, SETTINGS)


def test_a_column_without_spread_drifts_only_if_its_value_changes(
    halves: tuple[pd.DataFrame, pd.DataFrame], items: pd.DataFrame
) -> None:
    older, current = (half.assign(rating=3.0) for half in halves)
    before = reference_of(older, items, SETTINGS, 0)
    assert "rating" not in drifted(before, current, items) and "rating" in drifted(before, current.assign(rating=4.0), items)


def test_first_events_alone_have_no_gaps_to_compare(features: pd.DataFrame, reference: Reference, items: pd.DataFrame) -> None:
    result = detect_drift(reference, features[features["gap_s"] < 0], items, SETTINGS).result
    found = check(result, "seconds between events (log)")
    assert found.verdict == "not judged" and "no values" in found.detail and result.verdict != "too small to judge"


def test_a_saved_reference_loads_unchanged(features: pd.DataFrame, items: pd.DataFrame, tmp_path: Path) -> None:
    before = reference_of(features, items, DriftSettings(sample_rows=5000), 0, Quarantine(100, 3))
    before.save(tmp_path)
    again = Reference.load(tmp_path)
    assert again.item_events.sum() == again.user_events.sum() == len(features)
    assert again.item_events.to_dict() == before.item_events.to_dict()
    assert again.history == before.history and again.quarantine == Quarantine(100, 3)
    pd.testing.assert_frame_equal(again.sample, before.sample)
    assert {path.name for path in tmp_path.iterdir()} == {
        "reference_sample.parquet", "reference_counts.parquet", "reference_history.json",
    }  # fmt: skip


def test_a_reference_of_an_older_version_is_compared_without_a_history(
    features: pd.DataFrame, halves: tuple[pd.DataFrame, pd.DataFrame], items: pd.DataFrame, tmp_path: Path
) -> None:
    reference_of(halves[0], items, SETTINGS, 0).save(tmp_path)
    (tmp_path / "reference_history.json").unlink()
    rows = pd.read_parquet(tmp_path / "reference_sample.parquet").drop(columns="session_events").sample(frac=0.5, random_state=1)
    rows.to_parquet(tmp_path / "reference_sample.parquet")  # rows drawn one by one, in no order
    old, newest = Reference.load(tmp_path), halves[1]
    result = detect_drift(old, newest, items, SETTINGS, window=window_of(halves[0], newest)).result
    assert result.verdict == "stable"
    unjudged = {found.name: found.detail for found in result.checks if found.verdict == "not judged"}
    assert set(unjudged) == {"volume", "freshness", "new users", "quarantine", "events of a session (log)"}
    assert "has no history" in unjudged["volume"] and "has no sessions" in unjudged["events of a session (log)"]
    assert "rating" in drifted(old, newest.assign(rating=newest["rating"] * 2), items)


@pytest.mark.parametrize("content", ["{", "{}", '{"history": {"windows": [{}]}, "quarantine": null}', "[]"])
def test_a_damaged_history_is_named(content: str, features: pd.DataFrame, items: pd.DataFrame, tmp_path: Path) -> None:
    reference_of(features, items, SETTINGS, 0).save(tmp_path)
    (tmp_path / "reference_history.json").write_text(content)
    with pytest.raises(VersionCorruptError, match=r"reference_history\.json of the model version cannot be read"):
        Reference.load(tmp_path)


def test_the_error_says_that_a_version_has_no_reference(features: pd.DataFrame, items: pd.DataFrame, tmp_path: Path) -> None:
    reference_of(features, items, SETTINGS, 0).save(tmp_path)
    (tmp_path / "reference_counts.parquet").unlink()
    with pytest.raises(VersionCorruptError, match=r"no reference_counts\.parquet"):
        Reference.load(tmp_path)


def test_the_newest_slice_is_cut_in_time(features: pd.DataFrame) -> None:
    older, newest = newest_slice(features, SETTINGS)
    assert older["timestamp"].max() < newest["timestamp"].min()
    assert len(older) + len(newest) == len(features) and abs(len(newest) / len(features) - 0.1) < 0.02
    last = int(features["timestamp"].max())
    assert newest_slice(features, SETTINGS, after=last)[1].empty, "the champion knows all of it"
    after = newest_slice(features, SETTINGS, after=last - WEEK)[1]
    assert 0 < len(after) < len(newest) and after["timestamp"].min() > last - WEEK
    for early in (0, CUT):
        assert newest_slice(features, SETTINGS, after=early)[1].equals(newest)
    assert newest_slice(features, SETTINGS, after=last, since=CUT)[1]["timestamp"].min() >= CUT


def test_no_events_have_no_newest_slice_and_no_reference(features: pd.DataFrame, items: pd.DataFrame) -> None:
    with pytest.raises(DataRefusedError, match="no events"):
        newest_slice(features.head(0), SETTINGS)
    with pytest.raises(DataRefusedError, match="no events"):
        reference_of(features.head(0), items, SETTINGS, 0)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=40), st.integers(1, 3000), st.integers(1, 50), st.integers(0, 99))
def test_a_sample_of_users_has_consecutive_rows_of_each_and_is_bounded(
    lengths: list[int], rows: int, users: int, seed: int
) -> None:
    ids = np.repeat(np.arange(len(lengths)), lengths)
    found = capped_by_user(ids, rows, users, np.random.default_rng(seed))
    taken, counts = np.unique(ids[found], return_counts=True)
    assert 1 <= len(taken) <= users and len(found) <= rows
    for user, count in zip(taken, counts, strict=True):
        assert count == min(lengths[user], ROWS_OF_A_USER, max(rows // LEAST_USERS, 1))
        own = found[ids[found] == user]
        assert (np.diff(own) == 1).all()


def test_a_history_covers_the_latest_events(features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_reference, "HISTORY_EVENTS", 2000)
    history = history_of(features)
    assert history.first > features["timestamp"].quantile(0.6) and 1900 <= history.events <= 2000
    assert all(row.new_users > 0 for row in history.windows), "users who came before are known"


def test_a_past_of_one_second_has_no_silence_to_compare_with(features: pd.DataFrame, items: pd.DataFrame) -> None:
    at_once = reference_of(features.assign(timestamp=CUT), items, SETTINGS, 0)
    assert window_of(features.head(0), features) is None
    result = detect_drift(at_once, features, items, SETTINGS, window=Window(CUT, None, np.array([1]))).result
    assert check(result, "freshness").verdict == "not judged" and "no silences" in check(result, "freshness").detail


def test_a_single_user_has_no_concentration_to_judge(reference: Reference, features: pd.DataFrame, items: pd.DataFrame) -> None:
    alone = pd.concat([features[features["user_id"] == 1]] * 25)
    found = check(detect_drift(reference, alone, items, SETTINGS).result, "concentration on films")
    assert found.verdict == "not judged" and "two users" in found.detail


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(20, 4000))
def test_a_history_is_finite_whatever_the_times(seed: int, events: int) -> None:
    rng = np.random.default_rng(seed)
    users = np.sort(rng.integers(0, 30, events))
    times = rng.integers(0, int(rng.choice([1, 10, 10**4, 10**9])), events)
    frame = pd.DataFrame({"user_id": users, "timestamp": times}).sort_values(["user_id", "timestamp"])
    history = history_of(frame)
    json.dumps([vars(row) for row in history.windows], allow_nan=False)
    assert history.silences == sorted(history.silences, reverse=True) and history.last >= history.first
    assert all(row.windows >= 8 for row in history.windows)
