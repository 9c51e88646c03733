"""What came next in truth: the event of a user that the evaluation hid, and the rank that each model gave its item."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from configs.settings import EvaluationSettings
from models.evaluation import MISS, exact_order
from serving.demo.histories import Events, Histories

__all__ = ["EvaluatedRequests", "HeldOut"]

IntArray = npt.NDArray[np.int64]
RANK = "rank_"  # begins the name of a column with the ranks of a kind of model


@dataclass(frozen=True)
class HeldOut:
    """The event that the models had to foresee."""

    item_id: int  # number of the item
    time: int  # UTC seconds
    rating: float | None
    asked_at: int  # UTC seconds; the time of the evaluation's request
    ranks: Mapping[str, int | None]  # by kind of model, from 1; None if the model cannot recommend the item


@dataclass(frozen=True, eq=False)
class EvaluatedRequests:
    """The test requests of a version, as its evaluation recorded them."""

    user_ids: IntArray  # (R,) at most one request for each user
    targets: IntArray  # (R,) numbers of the items
    ranks: Mapping[str, IntArray]  # (R,) by kind of model
    settings: EvaluationSettings

    @classmethod
    def read(cls, content: bytes, settings: Mapping[str, Any]) -> EvaluatedRequests:
        """Read a version's `ranks.parquet`. `settings` are the version's settings of the evaluation."""
        table = pq.ParquetFile(io.BytesIO(content)).read()
        columns = {name: table[name].to_numpy().astype(np.int64) for name in table.column_names}
        users, targets = columns.pop("user_id"), columns.pop("target")
        ranks = {name.removeprefix(RANK): values for name, values in columns.items() if name.startswith(RANK)}
        known = {name: value for name, value in settings.items() if name in EvaluationSettings.model_fields}
        return cls(users, targets, ranks, EvaluationSettings.model_validate(known))

    def hide(self, user: int, histories: Histories) -> tuple[Events, HeldOut] | None:
        """Return what the models knew of a user when they were asked, and what they had to foresee.

        Returns:
            None if no event of this user was held out, or if the histories no longer have the event.
        """
        rows = np.flatnonzero(self.user_ids == user)
        events = self._ordered(user, histories.of(user))
        if not len(rows) or not len(events.times):
            return None
        row = rows[0]
        temporal = self.settings.protocol == "temporal" and self.settings.temporal_target != "last"
        places = np.flatnonzero(events.item_ids == self.targets[row])
        if temporal and len(places) > 1:  # a user who came back to the item: the first event after the cut counts
            after = places[events.times[places] >= self._cut(histories.times)]
            places = after[:1] if len(after) else places
        if not len(places):
            return None
        place = int(places[-1])
        at = int(events.times[place])
        before = np.arange(len(events.times)) < place if not temporal else events.times < at
        known = events.at(before)
        last = self.settings.query_time == "last" and len(known.times)
        hidden = HeldOut(
            item_id=int(self.targets[row]),
            time=at,
            rating=None if events.ratings is None or np.isnan(events.ratings[place]) else float(events.ratings[place]),
            asked_at=int(known.times[-1]) if last else at,
            ranks={kind: None if ranks[row] == MISS else int(ranks[row]) for kind, ranks in self.ranks.items()},
        )
        return known, hidden

    def _ordered(self, user: int, events: Events) -> Events:
        """Return the events in the order of the evaluation, which draws the order of those of one second."""
        users = np.full(len(events.times), user, np.int64)
        return events.at(exact_order(users, events.item_ids, events.times, self.settings.tie_seed))

    def _cut(self, times: IntArray) -> int:
        """Return the time from which the protocol `temporal` tests."""
        place = min(int(len(times) * (1 - self.settings.temporal_test_share)), len(times) - 1)
        return int(np.partition(times, place)[place])
