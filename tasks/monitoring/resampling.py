"""Estimate what chance does to a slice, by drawing slices from the reference itself, visit by visit.

Events of one visit are alike, so a slice of 500 events by four users carries little more information than four opinions. To draw
a slice from the reference's own distribution, each visit in the slice is replaced by a visit of another user with as many events
(a two-sample bootstrap, Efron and Tibshirani 1993, 16.2). A visit is everything that a user does in a span of time as long as the
slice. If the slice is not a window of time, a visit is everything that the user ever did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Drawn", "Runs", "draws", "runs_of", "visits_of"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
LEAST_POOL, POOL_SHARE = 20, 0.1  # visits that one visit is drawn from: minimum number, and share of all visits
CHUNK = 1 << 12  # visits drawn at a time


@dataclass(frozen=True, eq=False)
class Runs:
    """Groups of consecutive rows."""

    starts: IntArray  # (K,) first row of each run
    lengths: IntArray  # (K,)

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Column sums of the rows of each draw, (resamples, columns) each."""

    reference: FloatArray  # users drawn with replacement
    slice: FloatArray  # visits as long as those of the slice
    any_length: FloatArray  # the same number of visits, but of any length; only for the requested columns


def runs_of(*keys: IntArray) -> Runs:
    """Return the runs of rows that agree in all `keys`, (N,) each."""
    rows = len(keys[0])
    changes = np.zeros(max(rows - 1, 0), dtype=bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    starts = np.flatnonzero(np.append(True, changes)[:rows]).astype(np.int64)
    return Runs(starts, np.diff(starts, append=rows).astype(np.int64))


def visits_of(users: IntArray, times: IntArray, seconds: int | None, seed: int) -> Runs:
    """Return the visits of rows that are sorted by user and time (UTC seconds).

    A visit is a user's rows in one span of `seconds`; the spans start at a random moment. If `seconds` is None, it is all of a
    user's rows.
    """
    if seconds is None:
        return runs_of(users)
    span = max(seconds, 1)
    offset = int(np.random.default_rng([seed, 2]).integers(span))
    return runs_of(users, (times + offset) // span)


def draws(
    before: Rows,
    now: Rows,
    users: Runs,
    visits: Runs,
    slice_visits: Runs,
    any_length: slice,
    resamples: int,
    rng: np.random.Generator,
) -> Drawn:
    """Return the sums over drawn references and drawn slices.

    For a visit of n rows, n consecutive rows of another visit are drawn. That visit has n rows or only slightly more, because
    much longer visits are of another kind. If too few visits have n rows, one of the longest visits is taken. The slice's own
    visit is in the pool too, and is drawn as often as each of the others. So for a slice of a single user, the draws show
    nothing that the user's rank among the others would not show.

    Args:
        before: Rows of the reference, (N, columns).
        now: Rows of the slice, with the same columns.
        users: Runs of `before` by user.
        visits: Runs of `before` by visit.
        slice_visits: Runs of `now` by visit.
        any_length: Columns for which visits of any length are drawn as well.
    """
    weights = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=resamples).astype(np.float64)
    reference = weights @ np.add.reduceat(before, users.starts, axis=0).astype(np.float64)
    sums = np.concatenate(
        [np.zeros((1, before.shape[1]), np.float32), np.cumsum(np.concatenate([before, now]), axis=0, dtype=np.float32)]
    )
    own = len(visits) + np.arange(len(slice_visits))  # indices of the slice's visits, which follow those of the reference
    starts = np.concatenate([visits.starts, len(before) + slice_visits.starts])
    lengths = np.concatenate([visits.lengths, slice_visits.lengths])
    wanted = slice_visits.lengths
    longest = np.argsort(-visits.lengths, kind="stable")
    pool = min(len(longest), max(LEAST_POOL, int(len(longest) * POOL_SHARE)))
    last = np.maximum(np.searchsorted(-visits.lengths[longest], -wanted, side="right"), pool)  # visits with at least as many rows
    some = sums[:, any_length]
    found = Drawn(reference, np.empty((resamples, before.shape[1])), np.empty((resamples, some.shape[1])))
    step = max(1, CHUNK // len(wanted))
    for begin in range(0, resamples, step):
        shape = (min(step, resamples - begin), len(wanted))
        place = rng.integers(0, pool + 1, shape)
        chosen = np.where(place == pool, own, longest[last - 1 - np.minimum(place, pool - 1)])
        size = np.minimum(wanted, lengths[chosen])
        first = starts[chosen] + np.floor(rng.random(shape) * (lengths[chosen] - size + 1)).astype(np.int64)
        found.slice[begin : begin + len(place)] = (sums[first + size] - sums[first]).sum(axis=1)
        chosen = rng.integers(0, len(starts), shape)
        found.any_length[begin : begin + len(place)] = (some[starts[chosen] + lengths[chosen]] - some[starts[chosen]]).sum(axis=1)
    return found
