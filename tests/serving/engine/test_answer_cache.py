"""Cached answers are bounded in number, memory and time, and a time that a client chose is part of the key."""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from cachetools import TTLCache

from configs.serving import BatchSettings
from serving.engine import Answer, Filters, RecommendJob, RequestTime, answer_cache
from serving.engine.answer_cache import AnswerCache, answer_key
from serving.engine.explanations import Explanation
from serving.engine.jobs import Recommended
from serving.experiments import Assignment
from serving.state import UserLog
from tests.serving.state.events import Clock

ANSWER = Answer("v1", "state", "", 3, None, [])


def cache_of(**settings: Any) -> AnswerCache:
    return AnswerCache(BatchSettings(**settings))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the caches that a test makes."""
    clock = Clock()
    monkeypatch.setattr(answer_cache, "TTLCache", partial(TTLCache, timer=clock))
    return clock


def test_an_answer_is_kept_until_it_is_too_old_or_there_are_too_many(clock: Clock) -> None:
    cache = cache_of(cache_s=3600, cache_entries=2)
    assert cache.get("a") is None
    for key in ("a", "b", "c"):
        cache.put(key, ANSWER)
    assert cache.get("a") is None and len(cache) == 2
    found = cache.get("c")
    assert found is not None and found.cached and not ANSWER.cached
    assert (cache.hits, cache.misses) == (1, 2)
    cache.clear()
    assert len(cache) == 0
    cache.put("a", ANSWER)
    clock.now += 3599
    assert cache.get("a") is not None
    clock.now += 1
    assert cache.get("a") is None


def test_nothing_is_cached_or_counted_without_a_cache_or_a_key() -> None:
    for cache, key in ((cache_of(cache_s=0), "a"), (cache_of(cache_entries=0), "a"), (cache_of(), None)):
        cache.put(key, ANSWER)
        assert cache.get(key) is None and len(cache) == 0 and (cache.hits, cache.misses) == (0, 0)


def test_a_request_is_hypothetical_if_its_time_is_further_away_than_clocks_differ() -> None:
    now = 1_700_000_000
    present = RequestTime.of(None, now)
    assert (present.at, present.chosen) == (now, False) and not present.is_hypothetical(0)
    assert RequestTime.of(now, now).chosen
    for offset, expected in ((-61, True), (-60, False), (60, False), (61, True)):
        assert RequestTime.of(now + offset, now).is_hypothetical(60) is expected


def large_answer(items: int, *, explained: bool = False) -> Answer:
    explanations = [Explanation(10**6 + n, "Film", n / 7) if explained else None for n in range(items)]
    listed = [
        Recommended(1000 + n, "Film", 1990, [], None, n / 3, [], "{", explanation) for n, explanation in enumerate(explanations)
    ]
    return Answer("v1", "state", "", 3, None, listed)


def key_of(**asked: Any) -> Any:
    job = RecommendJob(Assignment("v1"), **{"k": 10, "time": RequestTime.of(None, 5), "user": 7} | asked)
    model: Any = SimpleNamespace(version="v1")
    return answer_key(job, model, UserLog.read(None))


@pytest.mark.parametrize(("items", "explained"), [(10, False), (500, False), (500, True)])
def test_the_memory_of_cached_answers_is_bounded_and_not_larger_than_reported(items: int, explained: bool) -> None:
    cache = cache_of(cache_s=3600, cache_mb=1)
    users = 2000 if items == 10 else 100  # several times as many as fit
    gc.collect()
    tracemalloc.start()
    try:
        for user in range(users):
            films = range(user, user + 100)
            cache.put(key_of(user=user, filters=Filters(exclude=tuple(films))), large_answer(items, explained=explained))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1 < len(cache) < users and 0.5 * 2**20 < cache.bytes <= 2**20
    assert taken < 1.1 * cache.bytes + 2**17  # the dictionaries of the cache double at once


def test_an_answer_larger_than_the_cache_is_not_kept() -> None:
    cache = cache_of(cache_s=3600, cache_mb=1)
    cache.put("a", ANSWER)
    cache.put("b", large_answer(5000))
    assert cache.get("a") is not None and cache.get("b") is None


def test_expired_answers_are_dropped_while_nobody_asks(clock: Clock) -> None:
    cache = cache_of(cache_s=3600)
    cache.put("a", ANSWER)
    assert cache.bytes > 0
    clock.now += 3600
    assert cache.bytes == 0 and cache._answers is not None and not cache._answers._Cache__data  # type: ignore[attr-defined]


def test_a_key_is_short_and_differs_with_each_part_of_the_question() -> None:
    films = tuple(range(10_000))
    asked: list[dict[str, Any]] = [
        {}, {"k": 11}, {"user": 8}, {"explain": True}, {"time": RequestTime.of(5, 5)}, {"likes": ("Drama",)},
        {"filters": Filters(genres=("Drama",))}, {"filters": Filters(years=(1990, None))}, {"filters": Filters(exclude=films)},
        {"filters": Filters(exclude=films[:-1])},
    ]  # fmt: skip
    keys = [key_of(**each) for each in asked]
    assert len(set(keys)) == len(asked) and keys == [key_of(**each) for each in asked]
    assert all(len(repr(key)) < 300 for key in keys)
    assert key_of(likes=("\ud800",)) is not None  # half of a character
