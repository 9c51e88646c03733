"""Judge raw events: their columns as numbers, the bad rows with all their faults, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.columns import Columns
from tasks.ingest.events.ids import TextIds, read_ids, trimmed
from tasks.ingest.events.reading import RowRules
from tasks.ingest.events.remedies import LARGEST
from tasks.ingest.events.row_checks import Checks, IntArray, Mask, Numbers
from tasks.ingest.events.times import TIME_UNITS, in_seconds, is_text, read_times
from tasks.tables import MILLISECONDS_FROM

__all__ = ["MAGNITUDES", "NAMES_OF_UNITS", "Judged", "judge_events", "texts_of", "times_of"]

NAMES_OF_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
MAGNITUDES = (0, MILLISECONDS_FROM, 10**14, 10**17, LARGEST)  # a time above the n-th is in the n-th unit, or a smaller one


@dataclass(frozen=True, eq=False)
class Judged:
    """The columns of raw events. The faults are in the `Checks`.

    Attributes:
        columns: Columns.EVENT and, if events have one, their weight, as numbers (n).
        left_out: Good rows whose weight is 0 (n).
        texts: The text ids by column.
    """

    columns: dict[str, Numbers]
    left_out: Mask
    texts: dict[str, TextIds] = field(default_factory=dict)

    def ids(self, kept: Mask) -> dict[str, pa.Table]:
        """Return the distinct numbers and texts of the rows in the mask (n), by column."""
        return {name: found.pairs(kept) for name, found in self.texts.items()}


def judge_events(checks: Checks, rules: RowRules) -> Judged:
    """Return raw events as numbers, and mark the bad rows. All faults of a row are found."""
    columns: dict[str, Numbers] = {}
    texts: dict[str, TextIds] = {}
    for name in (Columns.USER, Columns.ITEM):
        if name in rules.reading.text_ids:
            texts[name] = _text_ids(checks, name, rules)
            columns[name] = texts[name].numbers
        else:
            columns[name] = checks.numbers(name, whole=True)
    columns[Columns.RATING] = _ratings(checks, rules)
    columns[Columns.TIME] = times_of(checks, rules)
    for name in (Columns.USER, Columns.ITEM):
        checks.mark(columns[name] < 0, f"{name} is negative")
    if rules.reading.has_rating:
        low, high, rating = rules.settings.min_rating, rules.settings.max_rating, columns[Columns.RATING]
        outside = ((rating < low) | (rating > high)) & ~checks.faulty(Columns.RATING)
        checks.mark(outside, f"{Columns.RATING} is outside {low:g} to {high:g}")
    _judge_times(checks, columns[Columns.TIME], rules)
    left_out = np.zeros(len(checks.raw), dtype=bool)
    if rules.reading.has_weight:
        columns[Columns.WEIGHT] = weights = _weights(checks, rules)
        left_out = (weights == 0) & ~checks.bad
    return Judged(columns, left_out, texts)


def texts_of(cells: pd.Series[Any]) -> pa.Array:
    """Return cells as text. Numbers become their shortest text."""
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "f":
        whole = cells.notna() & (np.floor(cells) == cells) & (cells.abs() < 2.0**53)
        numbers = cells.where(whole, 0).astype(np.int64).astype("string")
        cells = numbers.where(whole, cells.astype("string"))
    found = pa.array(cells if isinstance(cells.dtype, pd.ArrowDtype) else cells.astype("string"), from_pandas=True)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return found.cast(pa.string())


def times_of(checks: Checks, rules: RowRules) -> IntArray:
    """Return the times as UTC seconds, 0 where there is none, and mark the rows whose time cannot be read."""
    name = Columns.TIME
    if not is_text(rules.times):
        numbers = checks.numbers(name, whole=True, floored=True).astype(np.int64, copy=False)
        _judge_units(checks, numbers, rules)
        return in_seconds(numbers, rules.times)
    texts = trimmed(texts_of(checks.raw[name]))
    found = read_times(texts, rules.times, rules.reading.timezone)
    checks.mark(np.asarray(texts.is_null()), f"{name} is missing")
    known = "is not an ISO 8601 time" if rules.times == "iso" else f"does not match {rules.times.replace(';', ' ')}"
    checks.mark(found.unread, f"{name} {known}")
    checks.mark(found.without_zone, f"{name} has no time zone")
    return found.seconds


def _judge_units(checks: Checks, numbers: IntArray, rules: RowRules) -> None:
    """Mark times that are in another unit than those of the file."""
    name, own = Columns.TIME, list(TIME_UNITS).index(rules.times)
    if numbers.max(initial=0) > MAGNITUDES[own + 1]:
        read = ~checks.faulty(name)
        for place, (least, most) in enumerate(pairwise(MAGNITUDES)):
            if place > own:
                unit = list(NAMES_OF_UNITS.values())[place]
                checks.mark(
                    read & (numbers > least) & (numbers <= most), f"{name} is in {unit}, not {NAMES_OF_UNITS[rules.times]}"
                )
    if own:
        latest = rules.now + rules.settings.max_future_s
        read = ~checks.faulty(name)
        early = read & (in_seconds(numbers, rules.times) < rules.settings.earliest)
        for unit, scale in list(TIME_UNITS.items())[:own] if early.any() else ():
            seconds = numbers // scale
            fits = early & (seconds >= max(rules.settings.earliest, 1)) & (seconds <= latest)
            checks.mark(fits, f"{name} is in {NAMES_OF_UNITS[unit]}, not {NAMES_OF_UNITS[rules.times]}")


def _judge_times(checks: Checks, seconds: Numbers, rules: RowRules) -> None:
    name, earliest = Columns.TIME, rules.settings.earliest
    read = ~checks.faulty(name)
    checks.mark(read & (seconds < 0), f"{name} is negative")
    early = read & (seconds >= 0) & (seconds < earliest)
    if early.any():
        checks.mark(early, f"{name} lies before {datetime.fromtimestamp(earliest, UTC):%Y-%m-%d}")
    checks.mark(read & (seconds > rules.now + rules.settings.max_future_s), f"{name} lies in the future")


def _ratings(checks: Checks, rules: RowRules) -> Numbers:
    if not rules.reading.has_rating:
        return np.ones(len(checks.raw))
    return checks.numbers(Columns.RATING, whole=False)


def _text_ids(checks: Checks, name: str, rules: RowRules) -> TextIds:
    found = read_ids(texts_of(checks.raw[name]), rules.reading.refused.get(name, ()))
    for reason, rows in found.faults.items():
        checks.mark(rows, f"{name} {reason}")
    return found


def _weights(checks: Checks, rules: RowRules) -> Numbers:
    """Return how much each event counts, and mark the rows where that is not known."""
    name, kinds = Columns.WEIGHT, rules.reading.weights
    if not kinds:
        weights = checks.numbers(name, whole=False).astype(np.float64)
        checks.mark(weights < 0, f"{name} is negative")
        return weights
    texts = trimmed(texts_of(checks.raw[name]))
    missing = np.asarray(texts.is_null())
    checks.mark(missing, f"{name} is missing")
    places = pc.fill_null(pc.index_in(texts, value_set=pa.array(list(kinds), pa.string())), -1).to_numpy(zero_copy_only=False)
    checks.mark((places < 0) & ~missing, f"{name} is a kind of event that data.weights does not name")
    return np.where(places < 0, 1.0, np.array(list(kinds.values()))[places])
