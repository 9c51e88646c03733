"""Estimate the null distribution of a slice's figures, by drawing slices from the reference itself, session window by window.

Events of one session window are alike, so a slice of 500 events by four users carries little more information than four opinions.
To draw a slice from the reference's own distribution, each session window in the slice is replaced by one of another user with as
many events (a two-sample bootstrap, Efron and Tibshirani 1993, 16.2). A session window is everything that a user does in a span
of time as long as the slice. If the slice is not a window of time, it is everything that the user ever did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Groups", "NullDraws", "Runs", "draw_slices", "runs_of", "session_windows"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
LEAST_POOL, POOL_SHARE = 20, 0.1  # session windows that one is drawn from: minimum number, and share of all
CHUNK = 1 << 12  # session windows drawn at a time


@dataclass(frozen=True, eq=False)
class Runs:
    """Groups of consecutive rows."""

    starts: IntArray  # (K,) first row of each run
    lengths: IntArray  # (K,)

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, eq=False)
class Groups:
    """The rows that were written together, on both sides of a comparison."""

    users: Runs  # rows of the reference by user
    windows: Runs  # rows of the reference by session window
    slice_windows: Runs  # rows of the slice by session window


@dataclass(frozen=True, eq=False)
class NullDraws:
    """Column sums of the rows of each draw, (resamples, columns) each."""

    reference: FloatArray  # users drawn with replacement
    slice: FloatArray  # session windows as long as those of the slice
    any_length: FloatArray  # the same number of session windows, but of any length; only for the requested columns


def runs_of(*keys: IntArray) -> Runs:
    """Return the runs of rows that agree in all `keys`, (N,) each."""
    rows = len(keys[0])
    changes = np.zeros(max(rows - 1, 0), dtype=bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    starts = np.flatnonzero(np.append(True, changes)[:rows]).astype(np.int64)
    return Runs(starts, np.diff(starts, append=rows).astype(np.int64))


def session_windows(users: IntArray, times: IntArray, seconds: int | None, seed: int) -> Runs:
    """Return the session windows of rows that are sorted by user and time (UTC seconds).

    A session window holds a user's rows in one span of `seconds`; the spans start at a random moment. If `seconds` is None, it holds all
    of a user's rows.
    """
    if seconds is None:
        return runs_of(users)
    span = max(seconds, 1)
    offset = int(np.random.default_rng([seed, 2]).integers(span))
    return runs_of(users, (times + offset) // span)


def draw_slices(
    before: Rows, now: Rows, groups: Groups, any_length: slice, resamples: int, rng: np.random.Generator
) -> NullDraws:
    """Return the sums over drawn references and drawn slices.

    For a session window of n rows, n consecutive rows of another session window are drawn. That one has n rows or only slightly
    more, because much longer session windows are of another kind. If too few have n rows, one of the longest is taken. The
    slice's own session window is in the pool too, and is drawn as often as each of the others. So for a slice of a single user,
    the draws show nothing that the user's rank among the others would not show.

    Args:
        before: Rows of the reference, (N, columns).
        now: Rows of the slice, with the same columns.
        groups: Which of these rows belong together.
        any_length: Columns for which session windows of any length are drawn as well.
        resamples: Number of draws.
        rng: Source of randomness.
    """
    users, windows, slice_windows = groups.users, groups.windows, groups.slice_windows
    weights = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=resamples).astype(np.float64)
    reference = weights @ np.add.reduceat(before, users.starts, axis=0).astype(np.float64)
    sums = np.concatenate(
        [np.zeros((1, before.shape[1]), np.float32), np.cumsum(np.concatenate([before, now]), axis=0, dtype=np.float32)]
    )
    own = len(windows) + np.arange(len(slice_windows))  # indices of the slice's windows, which follow those of the reference
    starts = np.concatenate([windows.starts, len(before) + slice_windows.starts])
    lengths = np.concatenate([windows.lengths, slice_windows.lengths])
    wanted = slice_windows.lengths
    longest = np.argsort(-windows.lengths, kind="stable")
    pool = min(len(longest), max(LEAST_POOL, int(len(longest) * POOL_SHARE)))
    last = np.maximum(
        np.searchsorted(-windows.lengths[longest], -wanted, side="right"), pool
    )  # windows with at least as many rows
    some = sums[:, any_length]
    found = NullDraws(reference, np.empty((resamples, before.shape[1])), np.empty((resamples, some.shape[1])))
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
