from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.settings import DriftSettings
from configs.studies import ScenarioName
from tasks.ingest import build_features
from tasks.monitoring import reference_of
from tasks.monitoring.drift import detect_drift, window_of
from tasks.replay.scenarios import SCENARIOS
from tests import synthetic

DAY = 86_400
DRIFT = DriftSettings(alpha=0.03, resamples=800)


@pytest.fixture(scope="module")
def feed() -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """A feed of 1000 users who arrive over 40 weeks, its films, and the second from which a shift begins."""
    frame = synthetic.interactions(1000, 60, 12)
    frame["timestamp"] += frame["user_id"].map(pd.Series(np.random.default_rng(1).integers(0, 280, 1001))) * DAY
    since = int(frame["timestamp"].quantile(0.7))
    return frame.astype({"rating": float}), synthetic.movies(frame).assign(year=1995), since


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_shift_changes_nothing_before_it_begins_and_is_the_same_each_time(
    scenario: ScenarioName, feed: tuple[pd.DataFrame, pd.DataFrame, int]
) -> None:
    events, items, since = feed
    unchanged = events.copy(), items.copy()
    shifted, described = SCENARIOS[scenario](events, items, since=since, seed=3)
    pd.testing.assert_frame_equal(events, unchanged[0])
    pd.testing.assert_frame_equal(items, unchanged[1])
    before = shifted[shifted["timestamp"] < since].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, events[events["timestamp"] < since].reset_index(drop=True))
    again = SCENARIOS[scenario](events, items, since=since, seed=3)
    pd.testing.assert_frame_equal(again[0], shifted)
    pd.testing.assert_frame_equal(again[1], described)
    assert list(shifted.columns) == list(events.columns) and (shifted.dtypes == events.dtypes).all()
    assert not shifted.duplicated(["user_id", "item_id"]).any()
    assert shifted["item_id"].isin(described["item_id"]).all() and described["item_id"].is_unique
    nothing = SCENARIOS[scenario](events, items, since=int(events["timestamp"].max()) + 1, seed=3)[0]
    pd.testing.assert_frame_equal(nothing.reset_index(drop=True), events.reset_index(drop=True))


@pytest.mark.parametrize(
    ("scenario", "names"),
    [
        ("genre-surge", {"genre", "unseen films"}),
        ("bot-users", {"rating"}),
        ("rating-scale", {"rating"}),
        ("feed-outage", {"freshness"}),
        ("partial-outage", {"volume"}),
    ],
)
def test_a_planted_shift_is_found_in_the_events_after_it(
    scenario: ScenarioName, names: set[str], feed: tuple[pd.DataFrame, pd.DataFrame, int]
) -> None:
    events, items, since = feed
    found = build_features(events.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True))
    reference = reference_of(found[found["timestamp"] < since], items, DRIFT, 0)
    whole = build_features(
        SCENARIOS["rating-scale"](events, items, since=since, factor=1.0)[0].sort_values(["user_id", "timestamp"])
    )
    older, newest = whole[whole["timestamp"] < since], whole[whole["timestamp"] >= since]
    assert detect_drift(reference, newest, items, DRIFT, window=window_of(older, newest)).result.verdict == "stable"
    shifted, described = SCENARIOS[scenario](events, items, since=since, seed=3)
    rows = build_features(shifted.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True))
    older, newest = rows[rows["timestamp"] < since], rows[rows["timestamp"] >= since]
    assert names <= set(detect_drift(reference, newest, described, DRIFT, window=window_of(older, newest)).result.drifted)


def test_shares_are_close_to_what_was_asked_for(feed: tuple[pd.DataFrame, pd.DataFrame, int]) -> None:
    events, items, since = feed
    after = int((events["timestamp"] >= since).sum())
    wave = SCENARIOS["genre-surge"](events, items, since=since, share=0.4, genre="Anime", seed=1)
    new = wave[1].loc[wave[1]["genres"] == "Anime", "item_id"]
    assert wave[0]["item_id"].isin(new).sum() / after == pytest.approx(0.4, abs=0.03)
    bots = SCENARIOS["bot-users"](events, items, since=since, share=0.4, seed=1)[0]
    assert (len(bots) - len(events)) / (len(bots) - len(events) + after) == pytest.approx(0.4, abs=0.03)
    assert set(bots["rating"].iloc[len(events) :]) == {5.0}
    rows = SCENARIOS["bot-users"](events.assign(row=np.arange(len(events))), items, since=since)[0]["row"]
    assert rows.is_unique and rows.max() == len(rows) - 1
    milliseconds = SCENARIOS["milliseconds"](events, items, since=since)[0]["timestamp"]
    assert (milliseconds > 10**11).sum() == after
    outage = SCENARIOS["feed-outage"](events, items, since=since, seconds=5 * DAY)[0]["timestamp"]
    assert not ((outage >= since) & (outage < since + 5 * DAY)).any()
