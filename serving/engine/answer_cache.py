"""Keeps the latest answers, so that a user who asks the same again gets the same."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import replace

from cachetools import TTLCache

from configs.serving import BatchSettings
from serving.engine.jobs import Answer, Filters, RecommendJob
from serving.engine.served_model import ServedModel
from serving.state import UserLog

__all__ = ["AnswerCache", "answer_key"]

ENTRY_BYTES, ITEM_BYTES, EXPLANATION_BYTES = 1024, 256, 192  # rounded up from what CPython 3.11 allocates
NO_FILTERS = Filters()


def answer_key(job: RecommendJob, model: ServedModel, log: UserLog) -> Hashable:
    """Return what the answer depends on: the question, the version, and the user's events, which the log's epoch and count identify.

    Filters can be large, so the key has only their digest. Return None for a job whose answer is not worth keeping: nobody asks
    with the same history again.
    """
    if job.user is None or job.history:
        return None
    wanted = None
    if job.likes or job.like_attributes or job.filters != NO_FILTERS:
        wanted = hashlib.blake2b(
            repr((job.filters, job.likes, job.like_attributes)).encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
    asked = (job.k, wanted, job.explain, job.time.at if job.time.chosen else None)
    return (job.user, model.version, log.epoch, log.count, *asked)


class AnswerCache:
    """Answers by key. Each expires after `cache_s`. The least recently used ones make room for others.

    The bounds are `cache_entries` and, by an estimate of their memory, `cache_mb`.
    """

    def __init__(self, settings: BatchSettings) -> None:
        self.hits = self.misses = 0
        self._entries, self._bytes = settings.cache_entries, settings.cache_mb << 20
        enabled = self._entries > 0 and self._bytes > 0 and settings.cache_s > 0
        self._answers: TTLCache[Hashable, Answer] | None = (
            TTLCache(self._bytes, settings.cache_s, getsizeof=_size) if enabled else None
        )

    def __len__(self) -> int:
        return 0 if self._answers is None else len(self._answers)

    @property
    def bytes(self) -> int:
        """The estimated memory of all answers. Reading it drops those that have expired, which would stay until the next `put`."""
        return 0 if self._answers is None else int(self._answers.currsize)

    def get(self, key: Hashable) -> Answer | None:
        """Return the answer, marked as cached, or None."""
        if self._answers is None or key is None:
            return None
        found = self._answers.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        return found

    def put(self, key: Hashable, answer: Answer) -> None:
        if self._answers is None or key is None or _size(answer) > self._bytes:
            return
        self._answers[key] = replace(answer, cached=True)
        if len(self._answers) > self._entries:
            self._answers.popitem()

    def clear(self) -> None:
        if self._answers is not None:
            self._answers.clear()


def _size(answer: Answer) -> int:
    """Return an estimate of the memory of an answer and its key. Either all items are explained or none is."""
    items = answer.items
    each = ITEM_BYTES + EXPLANATION_BYTES if items and items[0].explanation is not None else ITEM_BYTES
    return ENTRY_BYTES + each * len(items)
