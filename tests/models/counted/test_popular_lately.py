from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.popular_lately import EventCounts, PopularLately, PopularLatelySettings
from models.recommender import Requests, Sequences

DAY = 86_400
ITEMS = 5
EVENTS = st.lists(st.tuples(st.integers(0, 40 * DAY), st.integers(0, ITEMS - 1)), min_size=1, max_size=200)
COUNTING = st.sampled_from(["half_life", "window"])


def made(events: list[tuple[int, int]], weights: list[float] | None = None) -> EventCounts:
    times, items = np.array(events, np.int64).reshape(-1, 2).T
    return EventCounts.of(times, items, None if weights is None else np.array(weights, np.float32), ITEMS)


def asked(*times: int) -> Requests:
    nothing = np.empty(0, np.int64)
    count = len(times)
    return Requests(
        np.arange(count), np.zeros(count + 1, np.int64), nothing, nothing,
        request_times=np.array(times, np.int64), targets=np.zeros(count, np.int64),
    )  # fmt: skip


def fitted(events: list[tuple[int, int]], counting: str, days: float) -> PopularLately:
    times, items = np.array(sorted(events), np.int64).reshape(-1, 2).T
    train = Sequences(np.array([1]), np.array([0, len(items)]), items, times)
    model = PopularLately(PopularLatelySettings.model_validate({"counting": counting, "days": days}))
    model.fit(train, asked(0), np.arange(ITEMS), seed=0, mask_seen=False)
    return model


@given(EVENTS, COUNTING, st.floats(0.1, 60), st.integers(-DAY, 41 * DAY), st.integers(0, 2**16))
def test_no_event_after_the_request_changes_its_scores(
    events: list[tuple[int, int]], counting: str, days: float, now: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    others = [(now + 1 + int(rng.integers(0, 90 * DAY)), int(rng.integers(ITEMS))) for _ in range(30)]
    past = [event for event in events if event[0] <= now]
    found = fitted(past + others, counting, days).scores(asked(now))
    np.testing.assert_allclose(found, fitted(events + others, counting, days).scores(asked(now)), rtol=1e-5, atol=1e-5)
    if past:
        np.testing.assert_allclose(found, fitted(past, counting, days).scores(asked(now)), rtol=1e-5, atol=1e-5)


@given(EVENTS, st.floats(0.1, 60), st.integers(0, 41 * DAY))
def test_half_lives_are_those_summed_by_hand(events: list[tuple[int, int]], days: float, now: int) -> None:
    counts = made(events)
    past = [event for event in events if event[0] <= now]
    newest = max((time for time, _ in past), default=0)
    expected = np.zeros(ITEMS)
    for time, item in past:
        expected[item] += 0.5 ** ((newest - time) / (days * DAY))
    found = counts.halved(int(counts.before(np.array([now]))[0]), days)
    np.testing.assert_allclose(np.exp2(found), expected, rtol=1e-9, atol=1e-300)


@given(EVENTS, st.floats(0.1, 60), st.integers(0, 41 * DAY))
def test_windows_are_those_counted_by_hand(events: list[tuple[int, int]], days: float, now: int) -> None:
    counts = made(events)
    past = [event for event in events if event[0] <= now]
    newest = max((time for time, _ in past), default=0)
    inside = np.bincount([item for time, item in past if time > newest - days * DAY], minlength=ITEMS)
    found = counts.within(int(counts.before(np.array([now]))[0]), days)
    assert np.array_equal(np.floor(found), inside)


@pytest.mark.parametrize("counting", ["half_life", "window"])
def test_weights_are_summed_instead_of_events(counting: str) -> None:
    events = [(time * DAY, time % ITEMS) for time in range(40)]
    weights = [1.0 + time % 3 for time in range(40)]
    repeated = [event for event, weight in zip(events, weights, strict=True) for _ in range(int(weight))]
    one, other = made(events, weights), made(repeated)
    if counting == "half_life":
        np.testing.assert_allclose(one.halved(30, 4.0), other.halved(sum(map(int, weights[:30])), 4.0))
    else:
        np.testing.assert_allclose(one.within(30, 9.0), np.floor(other.within(sum(map(int, weights[:30])), 9.0)))


def test_what_is_popular_changes_with_the_time_of_the_request() -> None:
    events = [(day * DAY, 0) for day in range(10)] + [(day * DAY, 1) for day in range(20, 23)]
    for counting in ("half_life", "window"):
        model = fitted(events, counting, 2.0)
        best = model.scores(asked(5 * DAY, 30 * DAY, 10_000 * DAY)).argmax(dim=1).tolist()
        assert best == [0, 1, 1], counting


def test_scores_stay_finite_and_ordered_over_decades_of_short_half_lives() -> None:
    events = [(year * 365 * DAY, year % ITEMS) for year in range(30)]
    scores = fitted(events, "half_life", 1.0).scores(asked(-5, 29 * 365 * DAY, 60 * 365 * DAY))
    assert np.isfinite(scores.numpy()).all() and (scores[0] == scores[0, 0]).all()
    assert scores[1].argmax() == 29 % ITEMS and (scores[1] == scores[2]).all()
    assert len(set(scores[1].tolist())) >= 3  # 365 and 730 halvings are told apart, though 2**-365 is 0 as a float32


def test_the_users_own_events_make_no_difference() -> None:
    model = fitted([(1, 0), (2, 1), (3, 1)], "half_life", 1.0)
    empty = asked(3)
    full = replace(empty, offsets=np.array([0, 2]), item_ids=np.array([0, 99]), timestamps=np.array([1, 2]))
    assert (model.scores(full) == model.scores(empty)).all()
