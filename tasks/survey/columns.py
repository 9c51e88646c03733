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

__all__ = ["ColumnKind", "SurveyedColumn", "column_of"]

ColumnKind = Literal["integer", "number", "text", "time"]
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
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return _numbers(name, cells, cells, whole=pa.types.is_integer(kind))
    texts = pc.utf8_trim_whitespace(cells.cast(pa.string()) if not pa.types.is_nested(kind) else _plain(cells))
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    given = texts.drop_null()
    if not len(given):
        return SurveyedColumn(name, "text", len(cells), len(cells), 0, "", "", ())
    whole, decimal = _share(given, WHOLE), _share(given, DECIMAL)
    if decimal == 1.0:
        zeros = bool(pc.any(pc.match_substring_regex(given, LEADING_ZERO)).as_py())
        if whole == 1.0 and (zeros or pc.max(pc.utf8_length(given)).as_py() > 18):
            return _texts(name, texts, given, kind="integer", zeros=zeros)
        return _numbers(name, texts, texts.cast(pa.int64() if whole == 1.0 else pa.float64()), whole=whole == 1.0)
    return _texts(name, texts, given)


def _timestamps(name: str, cells: pa.ChunkedArray) -> SurveyedColumn:
    moments = cells.cast(pa.timestamp("us", tz=getattr(cells.type, "tz", None)))
    number: npt.NDArray[np.float64] = moments.cast(pa.int64()).to_pandas().to_numpy(np.float64) / 1e6

    def seconds(_: str) -> npt.NDArray[np.float64]:
        return number

    low, high = np.nanmin(number, initial=np.inf), np.nanmax(number, initial=-np.inf)
    zone = getattr(cells.type, "tz", None) is not None
    known = bool(np.isfinite(low))
    return SurveyedColumn(
        name, "time", len(cells), cells.null_count, _distinct(cells), _utc(low) if known else "", _utc(high) if known else "",
        _examples(cells), formats=("parquet",), zone=zone, seconds=seconds,
    )  # fmt: skip


def _numbers(name: str, cells: pa.ChunkedArray, numbers: pa.ChunkedArray, *, whole: bool) -> SurveyedColumn:
    kind: ColumnKind = "integer" if whole else "number"
    values = numbers.drop_null()
    if not len(values):
        return SurveyedColumn(name, kind, len(cells), len(cells), 0, "", "", ())
    extent = pc.min_max(values)
    low, high = extent["min"].as_py(), extent["max"].as_py()
    median = (
        float(pc.quantile(values.cast(pa.float64(), safe=False), 0.5)[0].as_py()) if not pa.types.is_boolean(values.type) else 0.0
    )
    formats = tuple(unit for unit, per_s in UNITS.items() if FIRST <= median / per_s <= LAST)

    def seconds(unit: str) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = numbers.to_pandas().to_numpy(np.float64) / UNITS[unit]
        return found

    return SurveyedColumn(
        name, kind, len(cells), cells.null_count, _distinct(numbers), f"{low:.6g}" if isinstance(low, float) else str(low),
        f"{high:.6g}" if isinstance(high, float) else str(high), _examples(cells), formats=formats,
        seconds=seconds if formats else None,
    )  # fmt: skip


def _texts(
    name: str, texts: pa.ChunkedArray, given: pa.ChunkedArray, *, kind: ColumnKind = "text", zeros: bool = False
) -> SurveyedColumn:
    extent = pc.min_max(given)
    low, high = str(extent["min"].as_py()), str(extent["max"].as_py())
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


def _share(given: pa.ChunkedArray, pattern: str) -> float:
    return float(pc.sum(pc.match_substring_regex(given, pattern)).as_py() or 0) / len(given)


def _distinct(cells: pa.ChunkedArray) -> int:
    try:
        return int(pc.count_distinct(cells).as_py())
    except pa.ArrowNotImplementedError:
        return len(set(map(str, cells.to_pylist())))


def _examples(cells: pa.ChunkedArray) -> tuple[str, ...]:
    given = cells.drop_null().slice(0, 1000)
    return tuple(_short(str(value)) for value in given.unique().to_pylist()[:3]) if not pa.types.is_nested(cells.type) else ()


def _plain(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([None if value is None else str(value) for value in cells.to_pylist()], pa.string())])


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
