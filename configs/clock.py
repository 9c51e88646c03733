"""What time it is: the wall clock, and the horizon of events, which stands for "now" in data of the past.

A release of 1998 is complete in itself, so the wall clock says nothing about it: its "now" is the time that its events reach. The
greatest time of the events is not that time, because one event from a wrong clock would move it for all. So "now" is one of two:

- `wall_clock()`, wherever something happens at the moment: a file arrives, a request is answered, a live feed is watched.
- `horizon(times, arrived)`, wherever data say how far they reach: a watermark, what a champion has learnt, the order of releases.

No other module takes the greatest time of events for "now".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["horizon", "wall_clock"]

LEAST_EVENTS = 10  # of fewer, none can be told apart from the others
STRAYS = 1000  # at most one event of so many is a stray; at least one may be
BODY = 100  # events before the strays, at least, that show which gaps are usual
LEAST_GAP_S = 3600  # a shorter gap makes no stray, because many feeds deliver in batches


def wall_clock() -> float:
    """Return this machine's time in UTC seconds."""
    return time.time()


def horizon(times: npt.NDArray[np.int64], arrived: float | None = None) -> int:
    """Return the time that events reach, in UTC seconds: the greatest of their times, without strays.

    An event later than its own arrival is a stray: its clock is wrong. Of the others, the newest thousandth (at least one event)
    are strays if a gap separates them from the events before that is longer than any gap there. An event that is taken for a stray
    by mistake costs nothing: the horizon is then a few events too early.

    Args:
        times: UTC seconds of the events (N,), in any order.
        arrived: UTC seconds at which they arrived, if that is known. Without it, only the gaps tell strays.

    Raises:
        ValueError: There are no events.
    """
    import numpy as np

    if not len(times):
        raise ValueError("without events there is no horizon")
    known = np.asarray(times, np.int64)
    if arrived is not None:
        known = known[known <= arrived]
        if not len(known):
            return int(arrived)
    if len(known) < LEAST_EVENTS:
        return int(known.max())
    strays = max(1, len(known) // STRAYS)
    tail = min(len(known), strays + max(BODY, 10 * strays))
    newest = np.sort(np.partition(known, len(known) - tail)[len(known) - tail :])
    gaps = np.diff(newest)
    limit = max(int(gaps[:-strays].max()), LEAST_GAP_S)
    apart = np.flatnonzero(gaps[-strays:] > limit)
    return int(newest[-1 - strays + apart[0]]) if len(apart) else int(newest[-1])
