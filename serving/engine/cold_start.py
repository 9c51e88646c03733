"""Cold start: recommendations for users with few or no events.

Popularity decays: an event loses half its weight every `half_life_s`. Weights grow forwards from a landmark instead of shrinking,
so counting an event is one addition and old counts are never touched (forward decay; Cormode, Shkapenyuk, Srivastava and Xu, ICDE
2009, section III). If no event times are known, the counts of the model's train part are used instead.
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
from configs.serving import AttributeValue
from models.top_k import best
from serving.catalogue import Catalogue
from serving.reranking import asked_attribute, jaccard_similarity

__all__ = ["ColdScores", "ColdStart", "Liked", "RecentPopularity"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Liked = tuple[str, Sequence[AttributeValue]]  # an attribute, and values of it
HALF_LIFE_S = 30 * 86_400
MAX_EXPONENT = 500.0  # of 2: larger weights are rescaled before a double overflows
WELL_KNOWN = 0.05  # onboarding picks from this share of the catalogue, the most popular items
LIKENESS = 0.5  # penalty on a candidate with exactly the genres of an earlier pick


class RecentPopularity:
    """Decayed event counts by item: exactly the sum over events of 2 ** (-age / half_life_s). Thread-safe."""

    def __init__(self, items: int, half_life_s: float = HALF_LIFE_S) -> None:
        """Raise ValueError if the half-life is not positive."""
        if not half_life_s > 0:
            raise ValueError(f"half_life_s is {half_life_s}")
        self._half_life_s = half_life_s
        self._weights = np.zeros(items)
        self._landmark: float | None = None  # an event at this time has the weight 1
        self._newest = -math.inf  # UTC seconds of the newest event
        self._lock = threading.Lock()

    def add(self, items: IntArray, times: IntArray) -> None:
        """Count events of items (m,) at UTC seconds (m,), in any order. Events far older than the newest count as zero."""
        if not len(items):
            return
        newest = float(np.max(times))
        with self._lock:
            self._newest = max(self._newest, newest)
            if self._landmark is None:
                self._landmark = newest
            if (newest - self._landmark) / self._half_life_s > MAX_EXPONENT:
                self._weights = _times_power_of_two(self._weights, (self._landmark - newest) / self._half_life_s)
                self._landmark = newest
            np.add.at(self._weights, items, np.exp2((np.asarray(times, np.float64) - self._landmark) / self._half_life_s))

    def covers(self, now: int) -> bool:
        """Return whether no counted event is later than `now` (UTC seconds), so that the counts at `now` hold nothing that came after."""
        return self._newest <= now

    def at(self, now: int) -> FloatArray:
        """Return the decayed counts (n,) at `now` (UTC seconds). The order of the items does not depend on `now`."""
        with self._lock:
            weights, landmark = self._weights.copy(), self._landmark
        if landmark is None:
            return weights
        return _times_power_of_two(weights, (landmark - now) / self._half_life_s)


def _times_power_of_two(weights: FloatArray, exponent: float) -> FloatArray:
    """Return `weights * 2 ** exponent`, also if the power alone is too large or too small for a double."""
    whole = math.floor(exponent)
    scaled: FloatArray = np.ldexp(weights * 2.0 ** (exponent - whole), whole)
    return scaled


@dataclass(frozen=True, eq=False)
class ColdScores:
    """Scores that replace a model's, with their source. The share of answers by source is a metric."""

    scores: npt.NDArray[np.float32]  # (n,)
    source: Literal["recent", "popular", "genres", "attributes"]


class ColdStart:
    """Cold-start scores and onboarding picks for one catalogue."""

    def __init__(self, catalogue: Catalogue, recent: RecentPopularity | None = None) -> None:
        self._catalogue, self._recent = catalogue, recent
        self._rows = catalogue.genre_bits.astype(np.float32)
        # Items of one kind have the same genres, or the same attributes if the catalogue has no genres.
        self._kinds, self._kind_of = np.unique(catalogue.features(), axis=0, return_inverse=True)

    def scores(
        self, now: int, genres: Sequence[str] = (), attributes: Sequence[Liked] = (), *, chosen: bool = False
    ) -> ColdScores:
        """Return popularity scores at `now` (UTC seconds), raised for items of the genres and attributes that a new user likes.

        A client that has chosen a time in the past (`chosen`) gets the popularity in the train part, because recent popularity
        counts later events too, and cannot forget them.

        A score is the logarithm of the decayed count plus the item's share of all events ever. The share keeps items without a
        recent event in order. If genres are given, the cosine between the item's genres and the liked ones is added, on the scale
        of the scores. If attributes are given, the share of them that the item has is added in the same way.

        Raises:
            RequestRefusedError: If a genre or an attribute is not in the catalogue.
            RequestInvalidError: If an attribute of numbers is not given two bounds.
        """
        recent = self._recent if self._recent is not None and (not chosen or self._recent.covers(now)) else None
        scores = np.log1p(self._counts(now, recent))
        source: Literal["recent", "popular", "genres", "attributes"] = "popular" if recent is None else "recent"
        if genres:
            scores += float(scores.max(initial=0.0)) * self._fit(genres)
            source = "genres"
        if attributes:
            having = np.mean([asked_attribute(self._catalogue, name, values) for name, values in attributes], axis=0)
            scores += float(scores.max(initial=0.0)) * having
            source = "attributes"
        return ColdScores(scores.astype(np.float32), source)

    def onboarding(self, count: int, now: int) -> IntArray:
        """Return well-known items (<= count,) that differ, so that a new user can say which ones they know and like.

        The candidates are the most popular WELL_KNOWN share of the catalogue, but at least ten times `count` items. Each pick is
        the most popular candidate after a penalty for genres, or attributes, similar to those of earlier picks.
        """
        scores = np.log1p(self._counts(now, self._recent)).astype(np.float32)
        pool = best(scores, max(10 * count, round(WELL_KNOWN * len(self._catalogue))))
        chosen: list[int] = []
        if not len(pool):
            return pool
        value = scores[pool].astype(np.float64)
        kinds = self._kind_of[pool]
        like = np.zeros(len(self._kinds))
        for _ in range(min(count, len(pool))):
            merit = value * (1 - LIKENESS * like)[kinds]
            place = int(merit.argmax())
            chosen.append(place)
            value[place] = -np.inf
            like = np.maximum(like, jaccard_similarity(self._kinds, self._kinds[kinds[place : place + 1]])[:, 0])
        return pool[chosen]

    def _counts(self, now: int, recent: RecentPopularity | None) -> FloatArray:
        ever = self._catalogue.popularity
        if recent is None:
            return ever
        total = float(ever.sum())
        return recent.at(now) + (ever / total if total > 0 else 0.0)

    def _fit(self, genres: Sequence[str]) -> FloatArray:
        """Return the cosine (n,) between each item's genres and the wanted ones."""
        known = self._catalogue.genres
        for genre in genres:
            if genre not in known:
                raise RequestRefusedError(f"There is no genre {genre!r}. Known genres: {', '.join(known) or 'none'}.")
        wanted = np.isin(np.array(known), list(genres)).astype(np.float64)
        lengths = np.sqrt(self._rows.sum(axis=1, dtype=np.float64) * wanted.sum())
        shared = self._rows @ wanted
        fit: FloatArray = np.divide(shared, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
        return fit
