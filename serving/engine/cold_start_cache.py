"""Keeps the cold start of each served version. All of them count the same events, including those before they were loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from serving.engine.cold_start import ColdStart, RecentPopularity
from serving.engine.jobs import NewEvent
from serving.engine.served_model import ServedModel

__all__ = ["ColdStartCache"]

RECENT = 100_000  # latest events that initialise a new version's recent popularity


@dataclass(frozen=True, eq=False)
class _VersionColdStart:
    """The cold start of a version, with the popularity that it reads."""

    model: ServedModel
    popularity: RecentPopularity
    cold_start: ColdStart

    @classmethod
    def of(cls, model: ServedModel) -> _VersionColdStart:
        popularity = RecentPopularity(len(model.catalogue))
        return cls(model, popularity, ColdStart(model.catalogue, popularity))

    def count(self, events: Collection[tuple[int, int]]) -> None:
        if not events:
            return
        items, times = np.array(events, np.int64).T
        indices = self.model.indices(items)
        self.popularity.add(indices[indices >= 0], times[indices >= 0])


class ColdStartCache:
    """Cold starts by version, made when they are first needed."""

    def __init__(self) -> None:
        # Item and time of each event. Plain tuples of numbers, which garbage collection leaves out: it would scan all events.
        self._latest: deque[tuple[int, int]] = deque(maxlen=RECENT)
        self._kept: dict[ServedModel, _VersionColdStart] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, model: ServedModel) -> ColdStart:
        """Return the cold start of a version."""
        kept = self._kept.get(model)
        if kept is None:
            kept = self._kept[model] = _VersionColdStart.of(model)
            kept.count(self._latest)
        return kept.cold_start

    def count(self, events: Collection[NewEvent]) -> None:
        """Count events of any users towards the recent popularity of their items."""
        counted = [(event.item, event.time) for event in events]
        self._latest.extend(counted)
        for kept in self._kept.values():
            kept.count(counted)

    def keep_only(self, models: Iterable[ServedModel]) -> None:
        """Forget the versions that are not served any more."""
        self._kept = {model: self._kept[model] for model in models if model in self._kept}
