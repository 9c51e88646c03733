"""No setting that is accepted switches an alarm off, and young or thinning feeds are judged fairly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.settings import DriftSettings
from tasks.ingest import build_features
from tasks.monitoring import reference_of
from tasks.monitoring.checks import Check, critical_of, decided, draws_for
from tasks.monitoring.drift import Beside, Reference, Window, detect_drift, newest_slice, window_of
from tasks.monitoring.reference import SpanRow
from tests import synthetic
from tests.tasks.fed import START, WEEK, steady

DRIFT = DriftSettings()
CUT = START + 12 * WEEK
DAY = 86_400


@pytest.fixture(scope="module")
def feed() -> pd.DataFrame:
    return steady(150, 13)


@pytest.fixture(scope="module")
def items(feed: pd.DataFrame) -> pd.DataFrame:
    return synthetic.movies(feed)


@pytest.fixture(scope="module")
def reference(feed: pd.DataFrame, items: pd.DataFrame) -> Reference:
    features = build_features(feed)
    return reference_of(features[features["timestamp"] < CUT], items, DRIFT, 0)


def found(feed: pd.DataFrame, reference: Reference, items: pd.DataFrame, drift: DriftSettings = DRIFT) -> list[str]:
    """The checks that drift in the week after CUT."""
    older, newest = newest_slice(build_features(feed), drift, since=CUT)
    window = window_of(older, newest, now=CUT + WEEK)
    return detect_drift(reference, newest, items, drift, window=window).result.drifted


@pytest.mark.full
@pytest.mark.parametrize("drift", [{"resamples": 200}, {"resamples": 1000}, {"alpha": 0.005}, {"alpha": 0.001}])
def test_a_large_shift_is_found_with_every_accepted_setting(
    drift: dict[str, float], feed: pd.DataFrame, reference: Reference, items: pd.DataFrame
) -> None:
    lower = feed.assign(rating=np.where(feed["timestamp"] < CUT, feed["rating"], feed["rating"] * 0.5))
    assert "rating" in found(lower, reference, items, DriftSettings.model_validate(drift))


@given(st.floats(0.001, 0.5), st.integers(200, 5000))
def test_the_strongest_evidence_of_one_check_among_all_is_significant(alpha: float, resamples: int) -> None:
    drift = DriftSettings(alpha=alpha, resamples=resamples)
    checks = [
        Check(str(n), "", effect=2.0, bound=1.0, p_value=1 / (draws_for(drift, 29) + 1) if n == 0 else 1.0) for n in range(29)
    ]
    assert decided(checks, alpha)[0].verdict == "drifted"


def test_an_alpha_that_no_number_of_draws_reaches_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.001"):
        DriftSettings(alpha=1e-5)


def test_a_sample_that_would_always_be_too_small_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"Raise drift\.sample_rows to at least 9000"):
        DriftSettings(sample_rows=6000, min_rows=9000)


def test_a_sample_that_would_hide_a_change_of_weekdays_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"sample_rows\n.*greater than or equal to 5000"):
        DriftSettings(sample_rows=4999)


def test_the_smallest_accepted_sample_is_judged(feed: pd.DataFrame, items: pd.DataFrame) -> None:
    drift = DriftSettings(sample_rows=5000)
    features = build_features(feed)
    small = reference_of(features[features["timestamp"] < CUT], items, drift, 0)
    current = features[features["timestamp"] >= CUT]
    assert 4000 < len(small.sample) <= 5000 < len(features)
    assert detect_drift(small, current, items, drift).result.verdict == "stable"


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_users_who_return_after_longer_than_the_reference_lasts_are_not_drift(seed: int) -> None:
    feed = steady(1500, 18, every_days=13 * 7, seed=seed)
    features, items = build_features(feed), synthetic.movies(feed)
    reference = reference_of(features[features["timestamp"] < CUT], items, DRIFT, 0)
    for week in (13, 15, 17):
        since = START + week * WEEK
        older, newest = newest_slice(features[features["timestamp"] < since + WEEK], DRIFT, since=since)
        result = detect_drift(reference, newest, items, DRIFT, window=window_of(older, newest)).result
        assert not {"seconds between events (log)", "new users"} & set(result.drifted)


def test_longer_gaps_within_the_reach_of_the_reference_are_drift(
    feed: pd.DataFrame, reference: Reference, items: pd.DataFrame
) -> None:
    slower = build_features(feed)
    late = slower["timestamp"] >= CUT
    slower["gap_s"] = np.where(late & slower["gap_s"].between(0, 600), slower["gap_s"] * 20, slower["gap_s"])
    assert "seconds between events (log)" in detect_drift(reference, slower[late], items, DRIFT).result.drifted


@pytest.mark.parametrize(("share", "alarm"), [(1.0, False), (0.8, False), (0.4, True), (0.05, True), (0.0, True)])
def test_a_fall_of_volume_is_found_however_few_events_are_left(
    share: float, alarm: bool, feed: pd.DataFrame, reference: Reference, items: pd.DataFrame
) -> None:
    kept = np.random.default_rng(0).random(len(feed)) < share
    fallen = feed[(feed["timestamp"] < CUT) | kept]
    assert ("volume" in found(fallen, reference, items)) == alarm


@pytest.mark.parametrize("day", ["like the others", "empty", "busy"])
def test_the_volume_of_a_week_is_judged_by_its_total_whatever_one_day_is_like(
    day: str, feed: pd.DataFrame, reference: Reference, items: pd.DataFrame
) -> None:
    days, second = (feed["timestamp"] - CUT) // DAY, (feed["timestamp"] - CUT) % DAY
    number = np.arange(len(feed))
    if day == "empty":
        days = days.mask(days == 2, np.array([0, 1, 3, 4, 5, 6])[number % 6])
    if day == "busy":
        days = days.mask((days >= 0) & (number % 2 == 0), 2)
    moved = feed.assign(timestamp=CUT + days * DAY + second).sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)
    older, newest = newest_slice(build_features(moved), DRIFT, since=CUT)
    on_that_day = ((newest["timestamp"] - CUT) // DAY == 2).mean()
    assert {"like the others": 0.05 < on_that_day < 0.3, "empty": on_that_day == 0, "busy": on_that_day > 0.5}[day]
    assert len(newest) == (feed["timestamp"] >= CUT).sum()
    window = Window(CUT, CUT + WEEK, older["user_id"].unique())
    check = next(c for c in detect_drift(reference, newest, items, DRIFT, window=window).result.checks if c.name == "volume")
    assert check.verdict == "stable" and check.chance is not None and check.effect is not None
    assert 1 < check.chance < 2 and check.effect < check.chance and check.retrains is False


def test_too_many_events_on_one_day_of_a_week_are_found_and_an_ordinary_week_is_not(
    feed: pd.DataFrame, reference: Reference, items: pd.DataFrame
) -> None:
    older, week = newest_slice(build_features(feed), DRIFT, since=CUT)
    window = window_of(older, week, now=CUT + WEEK)
    assert detect_drift(reference, week, items, DRIFT, window=window).result.verdict == "stable"
    monday = np.random.default_rng(0).random(len(week)) < 0.5
    moved = week.assign(rating_weekday=np.where(monday, 0, week["rating_weekday"]))
    assert detect_drift(reference, moved, items, DRIFT, window=window).result.drifted == ["weekday"]
    assert reference.history is not None  # a version from before the weekdays of whole weeks were stored
    spans = [SpanRow(span.seconds, span.windows, span.events, span.root, span.root_sd) for span in reference.history.spans]
    former = replace(reference, history=replace(reference.history, spans=spans))
    assert detect_drift(former, week, items, DRIFT, window=window).result.verdict == "stable"


def test_a_slow_drift_is_found_against_the_anchor_and_not_against_the_last_champion() -> None:
    feed = steady(120, 31)
    weeks = (feed["timestamp"] - START) // WEEK
    feed["rating"] = feed["rating"] * (1 - 0.01 * weeks)
    features, items = build_features(feed), synthetic.movies(feed)
    of = {name: features[weeks.between(*span)] for name, span in {"anchor": (0, 8), "recent": (24, 27), "now": (28, 29)}.items()}
    recent, anchor = (reference_of(of[name], items, DRIFT, 0) for name in ("recent", "anchor"))
    assert detect_drift(recent, of["now"], items, DRIFT).result.verdict == "stable"
    result = detect_drift(recent, of["now"], items, DRIFT, beside=Beside(anchor=anchor)).result
    assert result.drifted == ["rating, over the long term"] and result.causes == []
    assert not any("unseen" in c.name or "popularity" in c.name for c in result.checks if c.name.endswith("long term"))


@limits(max_examples=60)
@given(st.integers(0, 10**6), st.integers(100, 3000), st.floats(0.001, 0.2), st.floats(-4, 6))
def test_only_an_effect_beyond_the_drawn_critical_value_is_significant(
    seed: int, draws: int, level: float, effect: float
) -> None:
    null = np.random.default_rng(seed).normal(size=draws)
    p_value = ((null >= effect).sum() + 1) / (draws + 1)
    critical = critical_of(null)(level)
    assert (critical is not None and effect > critical) == (p_value <= level)


def test_what_the_page_draws_agrees_with_every_verdict(feed: pd.DataFrame, reference: Reference, items: pd.DataFrame) -> None:
    lower = feed.assign(rating=np.where(feed["timestamp"] < CUT, feed["rating"], feed["rating"] * 0.7))
    older, newest = newest_slice(build_features(lower), DRIFT, since=CUT)
    result = detect_drift(reference, newest, items, DRIFT, window=window_of(older, newest, now=CUT + WEEK)).result
    assert "rating" in result.drifted
    for check in result.checks:
        if check.verdict != "not judged":
            assert check.effect is not None and check.bound is not None and check.adjusted_p is not None
            beyond = check.chance is not None and check.effect > check.chance
            assert beyond == (check.adjusted_p <= DRIFT.alpha), check.name
            assert (check.verdict == "drifted") == (beyond and check.effect > check.bound), check.name
