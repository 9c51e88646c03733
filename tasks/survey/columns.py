"""What a column contains: its type by its values, its range, and how times are written in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ingest import trimmed
from tasks.tables import holds_bytes, plain_type

__all__ = ["ColumnKind", "SurveyedColumn", "column_of", "texts_in", "utc_text"]

ColumnKind = Literal["integer", "number", "text", "time", "yes or no", "bytes"]
WHOLE, DECIMAL = r"^[+-]?[0-9]+$", r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
LEADING_ZERO = r"^0[0-9]+$"
ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?)?"
ZONE = r"(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)$"
ISO_WHOLE = re.compile(f"{ISO}({ZONE[:-1]})?$")
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST, LAST = 315_532_800, 4_102_444_800  # 1980 and 2100: a time between them is plausible
DAYS = [f"{day}{mark}%Y" for mark in "/.-" for day in (f"%d{mark}%m", f"%m{mark}%d")] + ["%Y/%m/%d", "%d %b %Y", "%b %d, %Y"]
CLOCKS = ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S", " %I:%M:%S %p", " %I:%M %p", ":%H:%M:%S %z", " %H:%M:%S %z")
PATTERNS = [f"{day}{clock}" for day in DAYS for clock in CLOCKS] + ["%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y"]
TRIED = 400  # texts of a column that are tried as times
MOSTLY = 0.9  # share of numbers from which a column has numbers; the other cells are bad ones
LONGEST = 18  # digits of a whole number that surely fits 64 bits


@dataclass(frozen=True, eq=False)
class SurveyedColumn:
    """A column of a table, by the rows that were looked at."""

    name: str
    kind: ColumnKind
    rows: int
    missing: int
    distinct: int
    low: str  # smallest value or text, empty if there is none
    high: str
    examples: tuple[str, ...]
    leading_zeros: bool = False
    formats: tuple[str, ...] = ()
    """How times are written, for a column that may be one: a unit, `iso`, `parquet`, or patterns. Several: each fits all rows."""
    zone: bool = True
    """Whether the times say their zone. Numbers are in UTC."""
    is_whole: bool = False
    """Whether all numbers are whole, also those that are written as 20.0."""
    seconds: Callable[[str], npt.NDArray[np.float64]] | None = None
    """Returns the times (rows,) in UTC seconds for one of `formats`, NaN where there is none. Times without a zone count as UTC."""

    @property
    def range(self) -> str:
        """The smallest and the largest value, for people."""
        return f"{_short(self.low)} to {_short(self.high)}" if self.low else ""


def column_of(name: str, cells: pa.ChunkedArray) -> SurveyedColumn:
    """Look at a column.

    Args:
        name: Its name.
        cells: Its cells (rows): texts, or the types of a Parquet file.
    """
    kind = cells.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _timestamps(name, cells)
    if pa.types.is_integer(kind):
        return _numbers(name, cells, cells, whole=True)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(name, cells, cells.cast(pa.float64(), safe=False), whole=False)
    texts = texts_in(cells)
    given = texts.drop_null()
    if pa.types.is_boolean(kind):
        return _texts(name, texts, given, kind="yes or no")
    if holds_bytes(plain_type(kind)):  # bytes that are text were decoded
        return _texts(name, texts, given, kind="bytes")
    if not len(given):
        return SurveyedColumn(name, "text", len(cells), len(cells), 0, "", "", ())
    numeric = pc.match_substring_regex(texts, DECIMAL)
    figures = texts.filter(numeric)
    if len(figures) < MOSTLY * len(given):
        return _texts(name, texts, given)
    whole = bool(pc.all(pc.match_substring_regex(figures, WHOLE)).as_py())
    zeros = bool(pc.any(pc.match_substring_regex(figures, LEADING_ZERO)).as_py())
    if whole and (zeros or pc.max(pc.utf8_length(figures)).as_py() > LONGEST):
        pure = len(figures) == len(given)
        return _texts(name, texts, given, kind="integer" if pure else "text", zeros=zeros and pure)
    bare = pc.replace_substring_regex(pc.if_else(numeric, texts, pa.scalar(None, pa.string())), r"^\+", "")
    return _numbers(name, texts, bare.cast(pa.int64() if whole else pa.float64()), whole=whole)


def texts_in(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return cells of any type as texts. Missing cells, and marks such as NA, are null."""
    if not pa.types.is_nested(cells.type):
        try:
            return trimmed(cells.cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes, for example
            pass
    try:
        values = [None if value is None else str(value) for value in cells.to_pylist()]
    except (ValueError, OverflowError):  # a time that Python has not
        values = [None] * len(cells)
    return trimmed(pa.chunked_array([pa.array(values, pa.string())]))


def utc_text(seconds: float) -> str:
    """Return UTC seconds as a date and time, or as the number if there is no such date."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s"


def _timestamps(name: str, cells: pa.ChunkedArray) -> SurveyedColumn:
    zone = getattr(cells.type, "tz", None)
    unit = cells.type.unit if pa.types.is_timestamp(cells.type) else "s" if pa.types.is_date32(cells.type) else "ms"
    counts = cells.cast(pa.timestamp(unit, tz=zone)).cast(pa.int64())
    number: npt.NDArray[np.float64] = counts.to_pandas().to_numpy(np.float64) / UNITS[unit]

    def seconds(_: str) -> npt.NDArray[np.float64]:
        return number

    low, high = np.nanmin(number, initial=np.inf), np.nanmax(number, initial=-np.inf)
    known = bool(np.isfinite(low))
    return SurveyedColumn(
        name, "time", len(cells), cells.null_count, _distinct(cells), utc_text(low) if known else "", utc_text(high) if known else "",
        _examples(cells), formats=("parquet",), zone=zone is not None, seconds=seconds,
    )  # fmt: skip


def _numbers(name: str, cells: pa.ChunkedArray, numbers: pa.ChunkedArray, *, whole: bool) -> SurveyedColumn:
    """Return a column of numbers (rows), which are missing where there is none."""
    kind: ColumnKind = "integer" if whole else "number"
    if pa.types.is_floating(numbers.type):
        numbers = pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, numbers.type))
    values = numbers.drop_null()
    if not len(values):
        return SurveyedColumn(name, kind, len(cells), len(cells), 0, "", "", ())
    extent = pc.min_max(values)
    low, high = extent["min"].as_py(), extent["max"].as_py()
    floats: npt.NDArray[np.float64] = numbers.cast(pa.float64(), safe=False).to_pandas().to_numpy(np.float64)
    median = float(np.nanmedian(floats))
    formats = tuple(unit for unit, per_s in UNITS.items() if FIRST <= median / per_s <= LAST)
    is_float = isinstance(low, float)

    def seconds(unit: str) -> npt.NDArray[np.float64]:
        return floats / UNITS[unit]

    return SurveyedColumn(
        name, kind, len(cells), cells.null_count, _distinct(numbers), f"{low:.6g}" if is_float else str(low),
        f"{high:.6g}" if is_float else str(high), _examples(cells), formats=formats,
        is_whole=whole or (is_float and bool(np.all(np.isnan(floats) | (floats == np.floor(floats))))),
        seconds=seconds if formats else None,
    )  # fmt: skip


def _texts(
    name: str, texts: pa.ChunkedArray, given: pa.ChunkedArray, *, kind: ColumnKind = "text", zeros: bool = False
) -> SurveyedColumn:
    extent = pc.min_max(given)
    low, high = (str(extent[end].as_py() or "") for end in ("min", "max"))
    tried = _spread(given)
    formats: tuple[str, ...] = ()
    zone = True
    if kind == "text" and all(ISO_WHOLE.match(text) for text in tried):
        formats, zone = ("iso",), all(re.search(ZONE, text[10:]) for text in tried)
    elif kind == "text":
        formats = tuple(pattern for pattern in PATTERNS if all(_parses(text, pattern) for text in tried))
        zone = all("%z" in pattern for pattern in formats)

    def seconds(pattern: str) -> npt.NDArray[np.float64]:
        series = texts.to_pandas()
        options: dict[str, Any] = {"format": "ISO8601"} if pattern == "iso" else {"format": pattern}
        moments = pd.to_datetime(series, utc=True, errors="coerce", **options)
        number: npt.NDArray[np.float64] = (
            moments.astype("int64").to_numpy(np.float64) / {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[moments.dt.unit]
        )
        number[moments.isna().to_numpy()] = np.nan
        return number

    return SurveyedColumn(
        name, "time" if formats else kind, len(texts), texts.null_count, _distinct(given), low, high, _examples(given),
        leading_zeros=zeros, formats=formats, zone=zone, seconds=seconds if formats else None,
    )  # fmt: skip


def _parses(text: str, pattern: str) -> bool:
    try:
        datetime.strptime(text, pattern)
    except ValueError:
        return False
    return True


def _spread(given: pa.ChunkedArray) -> list[str]:
    """Return texts from all over the column."""
    places = np.unique(np.linspace(0, len(given) - 1, min(TRIED, len(given))).astype(np.int64))
    found: list[str] = given.take(pa.array(places)).to_pylist()
    return found


def _distinct(cells: pa.ChunkedArray) -> int:
    try:
        return int(pc.count_distinct(cells).as_py())
    except pa.ArrowNotImplementedError:
        return len(set(map(str, cells.to_pylist())))


def _examples(cells: pa.ChunkedArray) -> tuple[str, ...]:
    if pa.types.is_nested(cells.type):
        return ()
    try:
        return tuple(_short(str(value)) for value in cells.drop_null().slice(0, 1000).unique().to_pylist()[:3])
    except (ValueError, OverflowError, pa.ArrowException):  # a time that Python has not
        return ()


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
