"""What chance does to a slice: slices drawn from the reference itself, visit by visit.

Events of one visit are alike, so a slice of 500 events by four users says as much as four opinions. A slice of the reference's own
distribution is had by taking for each user of the slice a visit of another user, of as many events (a two-sample bootstrap, Efron
and Tibshirani 1993, 16.2). A visit is what a user does in a span of time as long as the slice lasts, or all that he ever did where
the slice is no window of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Drawn", "Runs", "draws", "runs_of", "visits_of"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
LEAST_POOL, POOL_SHARE = 20, 0.1  # visits that one is drawn from, at least and of all
CHUNK = 1 << 12  # visits drawn at once


@dataclass(frozen=True, eq=False)
class Runs:
    """Rows that stand together."""

    starts: IntArray  # (K,) first row of each
    lengths: IntArray  # (K,)

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Sums of rows over draws of chance, (resamples, columns) each."""

    reference: FloatArray  # users drawn with replacement
    slice: FloatArray  # visits as long as those of the slice
    any_length: FloatArray  # as many visits, of any length; of the columns that were asked for


def runs_of(*keys: IntArray) -> Runs:
    """Runs of rows that agree in all keys (N,)."""
    rows = len(keys[0])
    changes = np.zeros(max(rows - 1, 0), dtype=bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    starts = np.flatnonzero(np.append(True, changes)[:rows]).astype(np.int64)
    return Runs(starts, np.diff(starts, append=rows).astype(np.int64))


def visits_of(users: IntArray, times: IntArray, seconds: int | None, seed: int) -> Runs:
    """Visits of rows by user and time (UTC seconds): a user's rows in each span of `seconds`, from a random moment on; None: all."""
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
    """Sums over drawn references and drawn slices; `users` and `visits` are runs of `before` (N, columns), `slice_visits` of `now`.
    Visits of any length are drawn for the columns `any_length`.

    For a visit of n rows, n rows in a run of another are drawn: of one that has as many, or little more, as those with many are of
    another kind; where too few have as many, of one of the longest. The visit itself is among those it is drawn from, which makes
    the one draw in so many its own: of a slice that is one user's, nothing can be shown that a rank among the others does not show.
    """
    weights = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=resamples).astype(np.float64)
    reference = weights @ np.add.reduceat(before, users.starts, axis=0).astype(np.float64)
    sums = np.concatenate(
        [np.zeros((1, before.shape[1]), np.float32), np.cumsum(np.concatenate([before, now]), axis=0, dtype=np.float32)]
    )
    own = len(visits) + np.arange(len(slice_visits))  # places of the slice's visits after the reference's
    starts = np.concatenate([visits.starts, len(before) + slice_visits.starts])
    lengths = np.concatenate([visits.lengths, slice_visits.lengths])
    wanted = slice_visits.lengths
    longest = np.argsort(-visits.lengths, kind="stable")
    pool = min(len(longest), max(LEAST_POOL, int(len(longest) * POOL_SHARE)))
    last = np.maximum(np.searchsorted(-visits.lengths[longest], -wanted, side="right"), pool)  # of those with at least as many
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
