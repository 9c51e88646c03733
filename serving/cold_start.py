"""What to show somebody of whom nothing, or next to nothing, is known.

Popularity decays: an event weighs half after `half_life_s`. Weights grow forwards from a landmark instead of shrinking, so that an
event is one addition and old counts are never touched (forward decay; Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009, section
III). Where no event times are known, the counts of the model's train part stand in.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from configs.errors import RequestRefusedError
from serving.catalogue import Catalogue
from serving.diversity import jaccard_similarity
from serving.top import best

__all__ = ["ColdScores", "ColdStart", "RecentPopularity"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
HALF_LIFE_S = 30 * 86_400
MAX_EXPONENT = 500.0  # of 2: weights beyond are scaled back before a double overflows
WELL_KNOWN = 0.05  # share of the catalogue, the most popular, that onboarding picks from
LIKENESS = 0.5  # how much a pick is held back by one of exactly its genres


class RecentPopularity:
    """Counts of events by item that forget: exactly sum over events of 2 ** (-age / half_life_s). Threads may share it."""

    def __init__(self, items: int, half_life_s: float = HALF_LIFE_S) -> None:
        """Raises ValueError where the half-life is not positive."""
        if not half_life_s > 0:
            raise ValueError(f"half_life_s is {half_life_s}")
        self._half_life_s = half_life_s
        self._weights = np.zeros(items)
        self._landmark: float | None = None  # time at which an event weighs 1
        self._lock = threading.Lock()

    def add(self, items: IntArray, times: IntArray) -> None:
        """Count events of items (m,) at UTC seconds (m,), in any order. One that is ages older than the newest counts as nothing."""
        if not len(items):
            return
        newest = float(np.max(times))
        with self._lock:
            if self._landmark is None:
                self._landmark = newest
            if (newest - self._landmark) / self._half_life_s > MAX_EXPONENT:
                self._weights *= 2.0 ** -min((newest - self._landmark) / self._half_life_s, 1000.0)
                self._landmark = newest
            np.add.at(self._weights, items, np.exp2((np.asarray(times, np.float64) - self._landmark) / self._half_life_s))

    def at(self, now: int) -> FloatArray:
        """(n,) decayed counts at `now`, UTC seconds. The order of items does not depend on `now`."""
        with self._lock:
            weights, landmark = self._weights.copy(), self._landmark
        if landmark is None:
            return weights
        exponent = (landmark - now) / self._half_life_s
        decayed: FloatArray = np.ldexp(weights * 2.0 ** (exponent - math.floor(exponent)), math.floor(exponent))
        return decayed


@dataclass(frozen=True, eq=False)
class ColdScores:
    """Scores in the place of a model's, and where they come from; the share of answers by source is a metric."""

    scores: npt.NDArray[np.float32]  # (n,)
    source: Literal["recent", "popular", "genres"]


class ColdStart:
    """Scores and picks for one catalogue."""

    def __init__(self, catalogue: Catalogue, recent: RecentPopularity | None = None) -> None:
        self._catalogue, self._recent = catalogue, recent
        self._rows = catalogue.genre_bits.astype(np.float32)

    def scores(self, now: int, genres: Sequence[str] = ()) -> ColdScores:
        """What is popular at `now` (UTC seconds), above all among films of the genres that a new user says to like.

        A score is the logarithm of the decayed count plus the item's share of all events ever, so that items without a recent
        event keep their order; with genres, plus the cosine of the film's genres and the wanted ones on the scale of the
        scores. Raises RequestRefusedError on a genre that the catalogue has not.
        """
        found = self._counts(now)
        scores = np.log1p(found)
        source: Literal["recent", "popular", "genres"] = "popular" if self._recent is None else "recent"
        if genres:
            scores += float(scores.max(initial=0.0)) * self._fit(genres)
            source = "genres"
        return ColdScores(scores.astype(np.float32), source)

    def onboarding(self, count: int, now: int) -> IntArray:
        """(<= count,) well-known films of unlike genres, for a new user to say which of them are known and liked.

        Of the most popular WELL_KNOWN of the catalogue (ten times as many films as asked for, at least) each next one is the most
        popular after being held back by its likeness in genres to those chosen.
        """
        scores = np.log1p(self._counts(now)).astype(np.float32)
        pool = best(scores, max(10 * count, round(WELL_KNOWN * len(self._catalogue))))
        chosen: list[int] = []
        if not len(pool):
            return pool
        value = scores[pool].astype(np.float64)
        like = np.zeros(len(pool))
        for _ in range(min(count, len(pool))):
            merit = value * (1 - LIKENESS * like)
            merit[chosen] = -np.inf
            place = int(merit.argmax())
            chosen.append(place)
            like = np.maximum(like, jaccard_similarity(self._rows[pool], self._rows[pool[place : place + 1]])[:, 0])
        return pool[chosen]

    def _counts(self, now: int) -> FloatArray:
        ever = self._catalogue.popularity
        if self._recent is None:
            return ever
        total = float(ever.sum())
        return self._recent.at(now) + (ever / total if total > 0 else 0.0)

    def _fit(self, genres: Sequence[str]) -> FloatArray:
        """(n,) cosine of each film's genres and the wanted ones."""
        known = self._catalogue.genres
        for genre in genres:
            if genre not in known:
                raise RequestRefusedError(f"There is no genre {genre!r}; there are {', '.join(known) or 'none'}.")
        wanted = np.isin(np.array(known), list(genres)).astype(np.float64)
        lengths = np.sqrt(self._rows.sum(axis=1, dtype=np.float64) * wanted.sum())
        shared = self._rows @ wanted
        fit: FloatArray = np.divide(shared, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
        return fit
