"""Read the times of rows that need none, such as `updated_at`: by the rules of event times, but each file decides on its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ingest.events.ids import trimmed
from tasks.ingest.events.judging import MAGNITUDES, NAMES_OF_UNITS, texts_of
from tasks.ingest.events.row_checks import Checks, IntArray, Mask
from tasks.ingest.events.times import in_seconds, read_times

__all__ = ["row_times"]

NUMBER = r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$"


def row_times(checks: Checks, name: str, timestamp_format: str, timezone: str | None) -> tuple[IntArray, Mask]:
    """Return the times of a column as whole UTC seconds, and a mask of the rows that have one. Times that cannot be read are bad.

    If most of them are numbers, these have the unit that most of them fit. Otherwise they are in ISO 8601 or, if most are not, as
    `timestamp_format` says if that is a pattern.

    Args:
        checks: The table.
        name: The column.
        timestamp_format: `data.timestamp_format`.
        timezone: The zone of times that are written without one.
    """
    texts = trimmed(texts_of(checks.raw[name]))
    given = np.asarray(texts.is_valid())
    form = _form(texts.drop_null(), timestamp_format)
    if form is None:
        return _numbers(checks, name, given), given
    found = read_times(texts, form, timezone)
    fault = "is not an ISO 8601 time" if form == "iso" else f"does not match {form.replace(';', ' ')}"
    checks.mark(found.unread, f"{name} {fault}")
    checks.mark(found.without_zone, f"{name} has no time zone")
    return found.seconds, given


def _form(texts: pa.Array, timestamp_format: str) -> str | None:
    """Return `iso` or a pattern, or None for numbers."""
    numbers, iso = (int(pc.sum(pc.match_substring_regex(texts, form)).as_py() or 0) for form in (NUMBER, ISO))
    if 2 * numbers > len(texts):
        return None
    if 2 * iso > len(texts):
        return "iso"
    return timestamp_format if "%" in timestamp_format else None


def _numbers(checks: Checks, name: str, given: Mask) -> IntArray:
    """Return numbers of the unit that most of them fit as seconds, and mark those of another unit."""
    rows = np.flatnonzero(given)
    own = Checks(checks.name, pd.DataFrame({name: checks.raw[name].iloc[rows].reset_index(drop=True)}))
    numbers = own.numbers(name, whole=True, floored=True).astype(np.int64)
    places = np.searchsorted(np.array(MAGNITUDES[1:-1]), numbers)
    units = list(NAMES_OF_UNITS)
    unit = int(np.bincount(places[~own.bad & (numbers > 0)], minlength=1).argmax())
    for place, other in enumerate(NAMES_OF_UNITS.values()):
        if place != unit:
            own.mark(~own.bad & (numbers > 0) & (places == place), f"{name} is in {other}, not {NAMES_OF_UNITS[units[unit]]}")
    own.mark(numbers < 0, f"{name} is negative")
    for reason, mask in own.reasons.items():
        checks.mark(np.isin(np.arange(len(given)), rows[mask]), reason)
    seconds = np.zeros(len(given), dtype=np.int64)
    seconds[rows] = np.where(own.bad, 0, in_seconds(numbers, units[unit]))
    return seconds
