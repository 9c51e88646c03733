"""Read times: numbers of any unit, ISO 8601 with and without a zone, and patterns. Texts are parsed by column, not one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["TIME_UNITS", "TimesOfTexts", "in_seconds", "is_text", "read_times", "seconds_of_timestamps"]

TIME_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of each unit are a second."""
ZONED = r"(?i)[0-9][T ][0-9:.,]+(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
NANOSECONDS = 10**9
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def is_text(times: str) -> bool:
    """Return whether a format of times is one of text, not the unit of a number."""
    return times not in TIME_UNITS


def in_seconds(numbers: IntArray, times: str) -> IntArray:
    """Return numbers of a unit as whole seconds, without their fractions."""
    scale = TIME_UNITS[times]
    return numbers if scale == 1 else numbers // scale


@dataclass(frozen=True, eq=False)
class TimesOfTexts:
    """Times that were read from texts.

    Attributes:
        seconds: UTC seconds (n), 0 where there is no time.
        unread: Texts in another format (n).
        without_zone: Times whose zone is not known (n).
    """

    seconds: IntArray
    unread: Mask
    without_zone: Mask


def read_times(texts: pa.Array, times: str, timezone: str | None) -> TimesOfTexts:
    """Read texts (n) of a format. Missing ones have no time and no fault.

    Args:
        texts: Texts without spaces around them.
        times: `iso`, or a pattern of strptime.
        timezone: The zone of times that have none.
    """
    if times == "iso":
        fast = _fast_iso(texts, timezone)
        if fast is None:
            return _one_by_one(texts, datetime.fromisoformat, timezone)
    else:
        fast = _fast_pattern(texts, times, timezone)
        doubtful = np.asarray(pc.and_(pc.is_null(fast), pc.is_valid(texts))) | _maybe_rolled_over(fast, timezone, times)
        if doubtful.any():
            slow = _one_by_one(texts.filter(pa.array(doubtful)), lambda text: datetime.strptime(text, times), timezone)
            seconds = _filled(fast)
            unread, without_zone = np.zeros(len(texts), dtype=bool), np.zeros(len(texts), dtype=bool)
            seconds[doubtful], unread[doubtful], without_zone[doubtful] = slow.seconds, slow.unread, slow.without_zone
            return TimesOfTexts(seconds, unread, without_zone)
    none = np.zeros(len(texts), dtype=bool)
    return TimesOfTexts(_filled(fast), none, none)


def seconds_of_timestamps(cells: pa.Array, timezone: str | None) -> pa.Array:
    """Return Parquet timestamps or dates (n) as whole UTC seconds, int64. Those without a zone are in `timezone`, or else in UTC."""
    if pa.types.is_date(cells.type):
        cells = cells.cast(pa.timestamp("s"), safe=False)
    if cells.type.tz is None and timezone is not None:
        cells = _located(cells, timezone)
    scale = TIME_UNITS[cells.type.unit]
    return _floored(cells, scale)


def _floored(cells: pa.Array, scale: int) -> pa.Array:
    numbers = pc.cast(cells, pa.int64())
    floored = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False) // scale
    return pa.array(floored, mask=np.asarray(numbers.is_null()))


def _located(cells: pa.Array, timezone: str) -> pa.Array:
    return pc.assume_timezone(cells, timezone, ambiguous="earliest", nonexistent="latest")


def _filled(seconds: pa.Array) -> IntArray:
    found: IntArray = np.array(pc.fill_null(seconds, 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    return found


def _fast_iso(texts: pa.Array, timezone: str | None) -> pa.Array | None:
    """Return the seconds if all texts have a zone, or if none has one and it is known. Otherwise return None."""
    try:
        return _floored(pc.cast(texts, pa.timestamp("ns", "UTC")), NANOSECONDS)
    except pa.ArrowInvalid:
        pass
    if timezone is None:
        return None
    zoned = pc.fill_null(pc.match_substring_regex(texts, ZONED), False)
    try:
        here = pc.cast(pc.if_else(zoned, pa.scalar(None, pa.string()), texts), pa.timestamp("ns"))
        there = pc.cast(pc.if_else(zoned, texts, pa.scalar(None, pa.string())), pa.timestamp("ns", "UTC"))
        return pc.coalesce(_floored(there, NANOSECONDS), _floored(_located(here, timezone), NANOSECONDS))
    except pa.ArrowInvalid:
        return None


def _fast_pattern(texts: pa.Array, pattern: str, timezone: str | None) -> pa.Array:
    """Return the seconds, which are missing where the fast parser could not read a text."""
    found = pc.strptime(texts, format=pattern, unit="s", error_is_null=True)
    if found.type.tz is None:
        if timezone is None:
            return pa.nulls(len(texts), pa.int64())
        found = _located(found, timezone)
    return pc.cast(found, pa.int64())


def _maybe_rolled_over(seconds: pa.Array, timezone: str | None, pattern: str) -> Mask:
    """Return the times that may come from a day that does not exist: the fast parser takes 31 February for 3 March."""
    stamps = seconds.cast(pa.timestamp("s", "UTC"))
    slack = 1 if "%z" in pattern else 0  # the day in UTC may be the one before or after
    local = stamps if slack or timezone is None else stamps.cast(pa.timestamp("s", timezone))
    day = pc.fill_null(pc.day(local), 15).to_numpy(zero_copy_only=False)
    found: Mask = (day <= 3 + slack) | (day >= 32 - slack * 5)
    return found


def _one_by_one(texts: pa.Array, parse: Callable[[str], datetime], timezone: str | None) -> TimesOfTexts:
    """Read texts one by one, each distinct one once. Only chunks with a bad or a rare cell need it."""
    encoded = texts.dictionary_encode()
    zone = ZoneInfo(timezone) if timezone else None
    seconds, unread, without = list[int](), list[bool](), list[bool]()
    for text in encoded.dictionary.to_pylist():
        found = _parsed(text, parse)
        naive = found is not None and found.tzinfo is None
        if found is not None and naive and zone is not None:
            found = _existing(found.replace(tzinfo=zone))
        known = found is not None and found.tzinfo is not None
        seconds.append(_floor(found) if found is not None and known else 0)
        unread.append(found is None)
        without.append(found is not None and not known)
    places = pc.fill_null(encoded.indices, len(seconds)).to_numpy(zero_copy_only=False)  # the place of missing texts
    return TimesOfTexts(
        np.array([*seconds, 0], dtype=np.int64)[places],
        np.array([*unread, False], dtype=bool)[places],
        np.array([*without, False], dtype=bool)[places],
    )


def _parsed(text: str, parse: Callable[[str], datetime]) -> datetime | None:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        return None


def _existing(time: datetime) -> datetime:
    """Return a local time that clocks skip as the end of the gap, as Arrow does."""
    zone = time.tzinfo
    try:
        back = datetime.fromtimestamp(time.timestamp(), zone)
    except (ValueError, OverflowError):  # UTC is in the year 0 or 10000; no clock skips an hour there
        return time
    if back.replace(tzinfo=None) == time.replace(tzinfo=None):
        return time
    low, high = sorted((int(time.timestamp()), int(time.replace(fold=1).timestamp())))
    while high - low > 1:  # the first second with the later offset
        middle = (low + high) // 2
        changed = datetime.fromtimestamp(middle, zone).utcoffset() == datetime.fromtimestamp(high, zone).utcoffset()
        low, high = (low, middle) if changed else (middle, high)
    return datetime.fromtimestamp(high, zone)


def _floor(time: datetime) -> int:
    return int(time.replace(microsecond=0).timestamp())
