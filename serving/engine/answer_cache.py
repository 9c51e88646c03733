"""Keeps the latest answers, so that a user who asks the same again gets the same."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from cachetools import TTLCache

from configs.serving import BatchSettings
from serving.engine.jobs import Answer, RecommendJob
from serving.engine.served_model import ServedModel
from serving.state import UserLog

__all__ = ["AnswerCache", "answer_key"]


def answer_key(job: RecommendJob, model: ServedModel, log: UserLog) -> Hashable:
    """Return what the answer depends on: the question, the version, and the user's events, which the log's epoch and count identify.

    Return None for a job whose answer is not worth keeping: nobody asks with the same history again.
    """
    if job.user is None or job.history:
        return None
    asked = (job.k, job.filters, job.likes, job.explain, job.time.at if job.time.chosen else None)
    return (job.user, model.version, log.epoch, log.count, *asked)


class AnswerCache:
    """Answers by key. Each expires after `cache_s`; beyond `cache_entries`, the least recently used ones are dropped."""

    def __init__(self, settings: BatchSettings) -> None:
        self.hits = self.misses = 0
        enabled = settings.cache_entries > 0 and settings.cache_s > 0
        self._answers: TTLCache[Hashable, Answer] | None = TTLCache(settings.cache_entries, settings.cache_s) if enabled else None

    def __len__(self) -> int:
        return 0 if self._answers is None else len(self._answers)

    def get(self, key: Hashable) -> Answer | None:
        """Return the answer, marked as cached, or None."""
        if self._answers is None or key is None:
            return None
        found = self._answers.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        return replace(found, cached=True)

    def put(self, key: Hashable, answer: Answer) -> None:
        if self._answers is not None and key is not None:
            self._answers[key] = answer

    def clear(self) -> None:
        if self._answers is not None:
            self._answers.clear()
