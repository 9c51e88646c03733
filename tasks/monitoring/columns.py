"""Measure the distance of each column of a slice from the reference, and the null distribution of that distance.

Each column is compared in a form in which a distance is meaningful. Heavy tails become logarithms, and items become their rank in
popularity. Values are clipped relative to the reference's own spread, so that one absurd cell counts as one distant cell.
`tasks.monitoring.resampling` draws the null distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.monitoring.reference import Reference, jensen_shannon, without_strays
from tasks.monitoring.resampling import Groups, Rows, draw_slices, runs_of
from tasks.monitoring.traits import REPEATED, Traits, is_attribute

__all__ = [
    "UNSEEN",
    "ColumnDistance",
    "GapLimits",
    "Popularity",
    "clipped",
    "comparable",
    "concentration",
    "distances",
    "own_events",
    "with_few_categories",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
UNSEEN = "unseen_item"
OBSERVED = 4  # a gap between events is compared if the reference lasts at least this many times as long
SHORTEST_S = 1800  # gaps within a session are always compared
GRID = 32  # points at which distributions of numbers are compared
TAIL_WIDTHS = 3.0  # numbers are clipped this many spreads beyond the reference's 1st and 99th percentile
CONCENTRATION_ROWS = 5000
LEAST_SPREAD = 1e-3  # of a column, as in Evidently
LEAST_WIDTH = 1.0  # of a column's spread when it is clipped
CATEGORIES = 50  # of an attribute that are told apart, the most frequent ones; the rest is OTHER
OTHER, NONE = "other", "none"


@dataclass(frozen=True)
class Popularity:
    """Ranks items by popularity: the share of the reference's events that are on items with no more events."""

    item_events: pd.Series[int]
    counts: IntArray  # distinct event counts of items, ascending
    share: FloatArray  # share of the events that are on items with at most that count

    @classmethod
    def of(cls, item_events: pd.Series[int]) -> Popularity:
        counts, items = np.unique(item_events.to_numpy(np.int64), return_counts=True)
        events = np.cumsum(counts * items)
        return cls(item_events, counts.astype(np.int64), events / max(int(events[-1]) if len(events) else 1, 1))

    def events(self, item_ids: pd.Series[int], own: IntArray | int) -> IntArray:
        """Return the number of reference events on each row's item, minus the row's `own` (see `own_events`)."""
        found = item_ids.map(self.item_events).fillna(0).to_numpy(np.int64)
        rest: IntArray = np.maximum(found - own, 0)
        return rest

    def rank(self, events: IntArray) -> FloatArray:
        """Return ranks from 0 (never seen) to 1, interpolated linearly between known counts, so one more event changes little."""
        rank: FloatArray = np.interp(events, np.append(0, self.counts), np.append(0.0, self.share))
        return rank


@dataclass(frozen=True)
class ColumnDistance:
    """The distance of one column, and its null distribution."""

    column: str
    method: str
    distance: float
    null: FloatArray  # (resamples,) distances between draws from the reference
    reference: float  # mean, or share of the category that moved most
    current: float
    category: str | None  # the category that moved most; None for other columns


@dataclass(frozen=True)
class GapLimits:
    """Which times between events both sides can show.

    A reference of twelve weeks cannot show that users return after thirteen: their events before it are unknown. So both sides
    show only gaps up to a quarter of the reference's time, and only of events that have as much of this time before them.
    """

    since: int  # UTC seconds; the gap before an earlier event is not compared
    longest_s: int  # a longer gap is not compared

    @classmethod
    def of(cls, reference: pd.DataFrame) -> GapLimits:
        """Return the limits for a reference's sample."""
        times = np.sort(reference["timestamp"].to_numpy(np.int64))
        times = times[without_strays(len(times))]
        longest_s = max(int(times[-1] - times[0]) // OBSERVED, SHORTEST_S)
        return cls(int(times[0]) + longest_s, longest_s)


def own_events(sample: pd.DataFrame) -> IntArray | int:
    """Return the number of events of each reference row's user on its item: 1, or more if repeats are kept.

    They are left out of the item's popularity. Otherwise every item would look more popular in the reference than in events that the
    reference has not seen.
    """
    if REPEATED not in sample:
        return 1
    counts = sample.groupby([Columns.USER, Columns.ITEM])[Columns.TIME].transform("size")
    return counts.to_numpy(np.int64)


def comparable(
    frame: pd.DataFrame, traits: Traits, popularity: Popularity, own: IntArray | int, limits: GapLimits
) -> pd.DataFrame:
    """Return the columns that are compared, for rows with session_events and with what describes them.

    Args:
        frame: The rows, (N,).
        traits: Which columns there are.
        popularity: Popularity of items in the reference.
        own: `own_events` of rows of the reference; 0 for other rows.
        limits: Which times between events are compared.
    """
    gaps = frame["gap_s"].to_numpy(np.float64)
    hidden = (gaps < 0) | (gaps > limits.longest_s) | (frame["timestamp"].to_numpy(np.int64) < limits.since)
    events = popularity.events(frame["item_id"], own)
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name in traits.columns:
        if name == "log_gap":
            columns[name] = np.where(hidden, np.nan, np.log1p(np.maximum(gaps, 0)))
        elif name == "popularity":
            columns[name] = popularity.rank(events)
        elif name == "log_session":
            if "session_events" in frame:
                columns[name] = np.log(np.maximum(frame["session_events"].to_numpy(np.float64), 1))
        elif name == "genre":
            columns[name] = _one_genre(frame[Columns.GENRES])
        elif name in ("hour", "weekday"):
            columns[name] = frame[f"rating_{name}"].astype(str).to_numpy(object)
        elif name == REPEATED:
            columns[name] = frame[name].map({1.0: "same", 0.0: "another"}).to_numpy(object)
        elif name in traits.numerical:  # a rating, a weight, or an attribute
            columns[name] = frame[name].to_numpy(np.float64)
        else:
            columns[name] = frame[name].replace("", NONE).to_numpy(object)
    return pd.DataFrame({**columns, UNSEEN: (events == 0).astype(np.float64)})


def with_few_categories(before: pd.DataFrame, now: pd.DataFrame, traits: Traits) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both sides with all but the CATEGORIES most frequent values of the reference as OTHER, in each attribute.

    An attribute such as a brand may have many thousand values.
    """
    kept = {name: before[name].value_counts().index[:CATEGORIES] for name in traits.categories if name in before}
    many = {name: few for name, few in kept.items() if pd.concat([before[name], now[name]]).nunique() > CATEGORIES}
    return tuple(  # type: ignore[return-value]
        side.assign(**{name: side[name].where(side[name].isin(few), OTHER) for name, few in many.items()})
        for side in (before, now)
    )


def _one_genre(genres: pd.Series[str]) -> npt.NDArray[np.object_]:
    """Draw one genre for each row. MovieLens lists genres alphabetically, so always taking the first would hide later letters."""
    codes, lists = pd.factorize(genres)
    parts = [str(names).split("|") for names in lists]
    counts = np.array([len(names) for names in parts], dtype=np.int64)[codes]
    names = np.array([name or NONE for found in parts for name in found], dtype=object)
    first = np.cumsum([0, *[len(found) for found in parts]])[codes]
    drawn = np.floor(np.random.default_rng(len(genres)).random(len(genres)) * counts).astype(np.int64)
    chosen: npt.NDArray[np.object_] = names[first + drawn]
    return chosen


def clipped(before: pd.DataFrame, now: pd.DataFrame, traits: Traits) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clip the numbers of both sides at TAIL_WIDTHS times the reference's spread beyond its tails."""
    bounds = {}
    for name in traits.numerical:
        if name in before and before[name].notna().any():
            low, high = np.nanquantile(before[name], [0.01, 0.99])
            width = TAIL_WIDTHS * max(float(high - low), _least(name, before[name], LEAST_WIDTH))
            bounds[name] = (low - width, high + width)
    return tuple(  # type: ignore[return-value]
        frame.assign(**{name: frame[name].clip(low, high) for name, (low, high) in bounds.items()}) for frame in (before, now)
    )


def _least(name: str, column: pd.Series[float], least: float) -> float:
    """Return the least spread of a column. That of an attribute, which may have any unit, is relative to its values."""
    if not is_attribute(name):
        return least
    return LEAST_SPREAD * float(column.abs().max()) or LEAST_SPREAD


def distances(
    before: pd.DataFrame, now: pd.DataFrame, traits: Traits, groups: Groups, *, resamples: int, seed: int
) -> list[ColumnDistance]:
    """Return the distance of each comparable column of `now` from `before`, with a null distribution of `resamples` draws.

    A column without any value on one side is left out.

    Args:
        before: Comparable columns of the reference.
        now: Comparable columns of the slice.
        traits: Which columns there are.
        groups: Which of these rows belong together.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    names = [name for name in (*traits.columns, UNSEEN) if _has_values(name, before, now)]
    measures = [_measure_of(name, name in traits.categorical, before[name], now[name]) for name in names]
    widths = np.cumsum([0, *[measure.size for measure in measures]])
    of_before, of_now = (
        np.concatenate([measure.one_hot(frame[name]) for name, measure in zip(names, measures, strict=True)], axis=1)
        for frame in (before, now)
    )
    # Session windows as long as the slice's reproduce its session lengths, so these are drawn from windows of any length.
    parts = {name: slice(*widths[place : place + 2]) for place, name in enumerate(names)}
    apart = parts.get("log_session", slice(0, 0))
    drawn = draw_slices(of_before, of_now, groups, apart, resamples, np.random.default_rng(seed))
    whole_before, whole_now = of_before.sum(axis=0, dtype=np.float64)[None], of_now.sum(axis=0, dtype=np.float64)[None]
    found = []
    for (name, part), measure in zip(parts.items(), measures, strict=True):
        p, q = whole_before[:, part], whole_now[:, part]
        slices = drawn.any_length if part == apart else drawn.slice[:, part]
        category, reference, current = measure.figures(p[0] / p[0].sum(), q[0] / q[0].sum())
        found.append(
            ColumnDistance(
                column=name,
                method=measure.method,
                distance=float(measure.distance(p, q)[0]),
                null=measure.distance(drawn.reference[:, part], slices),
                reference=reference,
                current=current,
                category=category,
            )
        )
    return found


def concentration(
    reference: Reference, current: pd.DataFrame, *, resamples: int, seed: int
) -> tuple[float, float, FloatArray] | None:
    """Return the probability that two events of different users are on the same item, in the reference and in `current`.

    This is Simpson's index (Nature 163, 1949). Unlike the Gini index, it does not depend on the number of events. If repeats are kept,
    the pairs of events of one user on an item do not count.

    Args:
        current: Rows of the slice, grouped by user.

    Returns:
        The index of the reference, the index of `current`, and the null distribution of the logarithm of their ratio,
        (resamples,). None if no two users can be compared.
    """
    rng = np.random.default_rng(seed)
    items, own = reference.item_events.to_numpy(np.float64), reference.user_events.to_numpy(np.float64)
    codes, known = pd.factorize(reference.sample["item_id"])
    known_users = runs_of(reference.sample["user_id"].to_numpy(np.int64))
    starts, lengths = known_users.starts, known_users.lengths
    repeats = REPEATED in reference.sample
    repeated = _pairs_of_one_user(codes, lengths, len(known)) / max(len(codes), 1) * items.sum() if repeats else 0.0
    pairs = items.sum() ** 2 - (own**2).sum()
    shared = (items * (items - 1)).sum() - repeated
    if pairs <= 0 or items.max(initial=0) < 2 or shared <= 0:
        return None
    expected = float(shared / pairs)
    sizes = runs_of(current["user_id"].to_numpy(np.int64)).lengths
    order = rng.permutation(len(sizes))[: len(lengths)]
    order = order[: max(2, int((np.cumsum(sizes[order]) <= CONCENTRATION_ROWS).sum()))]
    chosen = np.isin(np.repeat(np.arange(len(sizes)), sizes), order)
    taken = sizes[order]
    if len(taken) < 2:
        return None
    found = _simpson(pd.factorize(current["item_id"].to_numpy()[chosen])[0], sizes[np.sort(order)], 1 / expected, repeats)
    null = np.empty(resamples)
    for row in range(resamples):
        users = rng.permutation(len(lengths))[: len(taken)]
        length = np.minimum(taken, lengths[users])
        first = starts[users] + np.floor(rng.random(len(users)) * (lengths[users] - length + 1)).astype(np.int64)
        index = np.arange(int(length.sum())) + np.repeat(first - np.cumsum(length) + length, length)
        null[row] = _simpson(codes[index], length, 1 / expected, repeats, len(known))
    return expected, found, np.log(null / null.mean())


def _simpson(codes: IntArray, sizes: IntArray, prior: float, repeats: bool, items: int = 0) -> float:
    """Return the probability of a common item. One common pair in `prior` pairs is added, so that the result is never zero.

    Args:
        codes: (N,) items, grouped by user.
        sizes: Number of rows of each user, in this order.
        prior: Number of pairs of which one is common.
        repeats: Whether a user may have several rows on an item.
        items: Number of items; 0 if it is unknown.
    """
    counts = np.bincount(codes, minlength=items).astype(np.float64)
    shared = float((counts * (counts - 1)).sum()) - (_pairs_of_one_user(codes, sizes, len(counts)) if repeats else 0.0)
    pairs = float(counts.sum() ** 2 - (sizes.astype(np.float64) ** 2).sum())
    return (shared + 1) / (pairs + prior)


def _pairs_of_one_user(codes: IntArray, sizes: IntArray, items: int) -> float:
    """Return the number of ordered pairs of rows in which a user meets the same item again."""
    cells = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes) * max(items, 1) + codes
    counts = np.unique(cells, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum())


@dataclass(frozen=True)
class _Measure:
    method: str
    size: int
    one_hot: Callable[[pd.Series], Rows]
    distance: Callable[[FloatArray, FloatArray], FloatArray]  # of counts (B, size); infinite if a side is empty
    figures: Callable[[FloatArray, FloatArray], tuple[str | None, float, float]]  # of shares (size,)


def _has_values(name: str, before: pd.DataFrame, now: pd.DataFrame) -> bool:
    return all(name in frame and bool(frame[name].notna().any()) for frame in (before, now))


def _measure_of(name: str, categorical: bool, before: pd.Series, now: pd.Series) -> _Measure:
    if name == UNSEEN:
        return _Measure("difference in shares", 2, _coded_numbers(np.array([0.0, 1.0])), _share_difference, _share)
    if categorical:
        categories = sorted(set(before.dropna()) | set(now.dropna()))
        return _Measure("Jensen-Shannon distance", len(categories), _coded(categories), jensen_shannon, _most_moved(categories))
    values = np.concatenate([before.dropna().to_numpy(np.float64), now.dropna().to_numpy(np.float64)])
    grid = np.unique(values)
    if len(grid) > GRID:
        grid = np.unique(np.quantile(values, np.linspace(0, 1, GRID), method="nearest"))
    spread = max(float(before.std(ddof=0)), _least(name, before, LEAST_SPREAD))
    return _Measure("normed Wasserstein distance", len(grid), _coded_numbers(grid), _wasserstein(grid, spread), _mean(grid))


def _coded(categories: list[str]) -> Callable[[pd.Series], Rows]:
    return lambda column: _rows(pd.Categorical(column, categories=categories).codes.astype(np.int64), len(categories))


def _coded_numbers(grid: FloatArray) -> Callable[[pd.Series], Rows]:
    """Code each number as the first grid point that is not below it. A missing number sets no point."""

    def code(column: pd.Series) -> Rows:
        values = column.to_numpy(np.float64)
        return _rows(np.where(np.isnan(values), -1, np.searchsorted(grid, values)), len(grid))

    return code


def _rows(codes: IntArray, size: int) -> Rows:
    filled = np.zeros((len(codes), size), dtype=np.float32)
    known = np.flatnonzero(codes >= 0)
    filled[known, codes[known]] = 1
    return filled


def _shares(counts: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    totals = counts.sum(axis=1, keepdims=True)
    return counts / np.maximum(totals, 1), totals[:, 0] == 0


def _wasserstein(grid: FloatArray, spread: float) -> Callable[[FloatArray, FloatArray], FloatArray]:
    def distance(p: FloatArray, q: FloatArray) -> FloatArray:
        (p, p_empty), (q, q_empty) = _shares(p), _shares(q)
        apart = np.abs(np.cumsum(p - q, axis=1)[:, :-1]) @ np.diff(grid) / spread
        return np.where(p_empty | q_empty, np.inf, apart)

    return distance


def _share_difference(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return by how much the share of 1 is greater on the second side."""
    return _shares(q)[0][:, 1] - _shares(p)[0][:, 1]


def _share(p: FloatArray, q: FloatArray) -> tuple[str | None, float, float]:
    return None, float(p[1]), float(q[1])


def _mean(grid: FloatArray) -> Callable[[FloatArray, FloatArray], tuple[str | None, float, float]]:
    return lambda p, q: (None, float(p @ grid), float(q @ grid))


def _most_moved(categories: list[str]) -> Callable[[FloatArray, FloatArray], tuple[str | None, float, float]]:
    def figures(p: FloatArray, q: FloatArray) -> tuple[str | None, float, float]:
        most = int(np.argmax(np.abs(p - q)))
        return categories[most], float(p[most]), float(q[most])

    return figures
