"""Kept answers are bounded in number and time, and a time that a client chose is part of the question."""

from __future__ import annotations

import time
from typing import Any

from configs.serving import BatchSettings
from serving.engine import Answer, RequestTime
from serving.engine.answer_cache import AnswerCache

ANSWER = Answer("v1", "state", "", 3, None, [])


def cache_of(**settings: Any) -> AnswerCache:
    return AnswerCache(BatchSettings(**settings))


def test_an_answer_is_kept_until_it_is_too_old_or_there_are_too_many() -> None:
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
    brief = cache_of(cache_s=0.01)
    brief.put("a", ANSWER)
    time.sleep(0.02)
    assert brief.get("a") is None


def test_nothing_is_kept_or_counted_without_a_cache_or_a_key() -> None:
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
