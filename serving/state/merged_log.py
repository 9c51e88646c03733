"""A user's events in the dataset, continued by those that were reported to the server.

Nothing is copied from the one into the other: the merged log is computed when it is needed. So a user who is removed from the dataset
is gone at once, versions that were trained on different datasets keep their own view of a user, and Redis holds only what was reported.

An event that was both reported and delivered with the dataset counts once. The two are taken for the same event if they are of the
same item, and their times differ by at most a tolerance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.histories import History
from serving.state.store import UserState
from serving.state.user_log import UserLog

__all__ = ["MergedLog", "merge_logs"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MergedLog(UserLog):
    """The merged events. `epoch` and `count` identify them, as in any log."""

    reported: UserLog  # the events that the store of states has
    later: int  # number of reported events that are later than all of the dataset

    @property
    def guard(self) -> tuple[bytes, int]:
        return self.reported.epoch, self.reported.count

    def continues(self, state: UserState) -> bool:
        """Return whether all events that this log has more than `state` are reported ones, each of which was appended.

        The counts alone do not tell: an event that the dataset has too adds nothing, and one that the limit pushes out is no longer
        known to be in the dataset. So each new event must also be later than the dataset.
        """
        if state.guard is None or state.epoch != self.epoch or state.guard[0] != self.reported.epoch:
            return False
        new = self.reported.count - state.guard[1]
        return new <= self.later and self.count - state.count == new


def merge_logs(name: str, base: History, reported: UserLog, *, limit: int, tolerance_s: int, newest: bool) -> MergedLog:
    """Merge a user's events in the dataset with the reported ones.

    Reported events that are later than all of the dataset are appended, so a state can be continued through them. Any other reported
    event is inserted at its time, and the epoch changes with it.

    Args:
        name: Identifies the file that `base` comes from.
        base: The events of the dataset. At least one.
        reported: The log of reported events.
        limit: Number of latest events to keep.
        tolerance_s: Seconds by which the times of one event may differ.
        newest: The dataset has only the newest event of each item, so a reported event before it is superseded.
    """
    edge = int(np.searchsorted(reported.times, int(base.times[-1]) + tolerance_s, side="right"))
    kept = _others(base, reported.items[:edge], reported.times[:edge], tolerance_s, newest=newest)
    items, times = base.items, base.times
    if len(kept):
        times = np.concatenate([times, reported.times[kept]])
        items = np.concatenate([items, reported.items[kept]])
        order = np.argsort(times, kind="stable")
        items, times = items[order], times[order]
    inserted = np.stack([reported.items[kept], reported.times[kept]])
    epoch = hashlib.blake2b(reported.epoch + name.encode() + inserted.tobytes(), digest_size=8).digest()
    return MergedLog(
        epoch,
        base.total + reported.count - (edge - len(kept)),
        np.concatenate([times, reported.times[edge:]])[-limit:],
        np.concatenate([items, reported.items[edge:]])[-limit:],
        reported,
        len(reported) - edge,
    )


def _others(base: History, items: IntArray, times: IntArray, tolerance_s: int, *, newest: bool) -> IntArray:
    """Return the places of the reported events that the dataset does not have. Each event of the dataset stands for one of them."""
    if not len(items):
        return np.empty(0, np.int64)
    known: dict[int, list[int]] = {}  # times of the events that stand for none yet
    latest = dict(zip(base.items.tolist(), base.times.tolist(), strict=True))  # times ascend
    for item, time in zip(base.items.tolist(), base.times.tolist(), strict=True):
        known.setdefault(item, []).append(time)
    events = list(enumerate(zip(items.tolist(), times.tolist(), strict=True)))
    left = []
    for place, (item, time) in events:  # equal times first, so that a near event does not take the place of an equal one
        own = known.get(item, [])
        if time in own:
            own.remove(time)
        else:
            left.append((place, item, time))
    others = []
    for place, item, time in left:
        own = known.get(item, [])
        nearest = min(own, key=lambda other: abs(other - time), default=None)
        if nearest is not None and abs(nearest - time) <= tolerance_s:
            own.remove(nearest)
        elif not newest or latest.get(item, time) <= time:  # otherwise it is superseded
            others.append(place)
    return np.array(others, np.int64)
