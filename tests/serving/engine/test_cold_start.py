"""Recent popularity equals its definition, and cold-start scores and onboarding picks suit a new user."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RequestRefusedError
from serving.catalogue import Catalogue
from serving.engine import ColdStart, NewEvent
from serving.engine.cold_start import RecentPopularity
from serving.engine.cold_start_cache import ColdStartCache

DAY = 86_400


def films() -> Catalogue:
    bits = np.zeros((30, 3), dtype=bool)
    bits[:10, 0] = bits[10:20, 1] = bits[20:, 2] = True
    return Catalogue(
        np.arange(30) + 1, [f"Film {i}" for i in range(30)], np.full(30, 1990), bits, ("Action", "Comedy", "Drama"),
        np.arange(30, 0, -1).astype(np.float64),
    )  # fmt: skip


@given(
    events=st.lists(st.tuples(st.integers(0, 4), st.integers(-(10**9), 4 * 10**9)), max_size=30),
    half_life=st.sampled_from([3600.0, 30.0 * DAY]),
    later=st.integers(0, 10**7),
    batches=st.integers(1, 5),
)
def test_in_recent_popularity_an_event_counts_half_after_each_half_life(
    events: list[tuple[int, int]], half_life: float, later: int, batches: int
) -> None:
    found = RecentPopularity(5, half_life)
    for part in np.array_split(np.arange(len(events)), batches):
        chosen = [events[i] for i in part]
        found.add(np.array([e[0] for e in chosen], np.int64), np.array([e[1] for e in chosen], np.int64))
    now = max([time for _, time in events], default=0) + later
    wanted = np.zeros(5)
    for item, time in events:
        wanted[item] += 2.0 ** max((time - now) / half_life, -1075)
    np.testing.assert_allclose(found.at(now), wanted, rtol=1e-7, atol=1e-250)


def test_a_question_about_the_past_is_not_answered_with_later_events() -> None:
    recent = RecentPopularity(30)
    cold = ColdStart(films(), recent)
    before = cold.scores(100 * DAY, chosen=True)
    recent.add(np.full(5000, 29), np.full(5000, 200 * DAY))
    asked = cold.scores(100 * DAY, chosen=True)
    assert before.source == "recent" and asked.source == "popular"
    assert list(np.argsort(-asked.scores)) == list(np.argsort(-films().popularity)), "films that were popular later come first"
    for now, chosen in ((200 * DAY, True), (100 * DAY, False)):  # nothing is later; the present of a clock that is behind
        found = cold.scores(now, chosen=chosen)
        assert found.source == "recent" and int(found.scores.argmax()) == 29


def test_many_threads_count_every_event_once() -> None:
    found = RecentPopularity(1, 1e12)
    work = [threading.Thread(target=lambda: [found.add(np.array([0]), np.array([100])) for _ in range(500)]) for _ in range(8)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found.at(100)[0] == pytest.approx(4000)


def test_what_is_watched_now_comes_before_what_was_watched_long_ago() -> None:
    recent = RecentPopularity(30)
    recent.add(np.array([29] * 3 + [5] * 20), np.array([1000 * DAY] * 3 + [0] * 20))
    cold = ColdStart(films(), recent).scores(1000 * DAY)
    order = np.argsort(-cold.scores, kind="stable")
    assert order[0] == 29 and cold.source == "recent"
    assert order[1:4].tolist() == [0, 1, 2]  # without a recent event, by all events
    assert np.argmax(ColdStart(films()).scores(0).scores) == 0 and ColdStart(films()).scores(0).source == "popular"


def test_films_of_the_wanted_genres_come_first_the_most_popular_before_the_others() -> None:
    cold = ColdStart(films()).scores(0, ["Drama"])
    assert np.argsort(-cold.scores, kind="stable")[:3].tolist() == [20, 21, 22] and cold.source == "genres"
    with pytest.raises(RequestRefusedError, match=r"no genre 'Drame'\. Known genres: Action"):
        ColdStart(films()).scores(0, ["Drame"])


def test_onboarding_picks_are_well_known_and_differ() -> None:
    catalogue = films()
    picks = ColdStart(catalogue).onboarding(3, 0)
    assert picks.tolist() == [0, 10, 20]
    assert len(set(ColdStart(catalogue).onboarding(30, 0).tolist())) == 30
    assert len(ColdStart(catalogue).onboarding(99, 0)) == 30
    assert len(ColdStart(catalogue).onboarding(0, 0)) == 0


def test_a_catalogue_without_genres_or_events_still_has_an_order() -> None:
    bare = Catalogue(np.arange(3), [""] * 3, np.zeros(3, np.int64), np.zeros((3, 0), bool), (), np.zeros(3))
    cold = ColdStart(bare, RecentPopularity(3))
    assert np.isfinite(cold.scores(0).scores).all()
    assert len(cold.onboarding(2, 0)) == 2
    with pytest.raises(ValueError, match="half_life_s is 0"):
        RecentPopularity(3, 0)


def test_garbage_collection_does_not_scan_the_counted_events() -> None:
    """With a hundred thousand of them, a scan would stop the worker for more than fifty milliseconds."""
    cache = ColdStartCache()
    cache.count([NewEvent(7, item, 1_700_000_000, bytes(8)) for item in range(1000)])
    gc.collect()
    kept = cache._latest
    assert len(kept) == 1000 and not any(gc.is_tracked(event) for event in kept)
