"""Reads outcomes from files: what users did, which an experiment is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import SourceError
from models.columns import Columns
from serving.experiments.exposures import LATEST, wrong_unit

__all__ = ["read_outcomes"]

NAMES = {
    "user_id": str,
    "request_id": str,
    Columns.ITEM: str,
    Columns.FORMER_ITEM: str,
}  # columns read as text, even if their values look like numbers


def read_outcomes(path: Path) -> pd.DataFrame:
    """Read outcomes from a CSV, Parquet or JSON lines file.

    The columns user_id and timestamp are required; item_id, value (1 if absent) and request_id are optional. A timestamp is a
    number of UTC seconds. A column of dates in a Parquet file states its own unit and zone and is converted; without a zone, it
    is in UTC.

    Returns:
        user (str), time (int64), item (str, empty if not given), value (float64), request (str, empty if not given).

    Raises:
        SourceError: If the file cannot be used; names the file, column and row.
    """
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda p: pd.read_csv(p, dtype=NAMES),
        ".parquet": pd.read_parquet,
        # Not with pd.read_json: it parses a column named timestamp as dates, and ids made of digits as numbers.
        ".jsonl": lambda p: pd.DataFrame(
            [json.loads(line) for line in p.read_bytes().splitlines() if line.strip()], dtype=object
        ),
    }
    if path.suffix not in readers:
        raise SourceError(f"{path} is not an outcomes file: give a .csv, .parquet or .jsonl file.")
    try:
        raw = readers[path.suffix](path)
    except FileNotFoundError as error:
        raise SourceError(f"The outcomes file {path} does not exist.") from error
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error
    for column in ("user_id", "timestamp"):
        if column not in raw:
            raise SourceError(f"{path} lacks the column {column}; it has {', '.join(map(str, raw.columns)) or 'none'}.")
    rows, item = len(raw), Columns.stored_as(Columns.ITEM, raw.columns)
    return pd.DataFrame(
        {
            "user": _ids(raw["user_id"], path),
            "time": _times(raw["timestamp"], path),
            "item": _items(raw[item], path) if item in raw else np.full(rows, ""),
            "value": _numbers(raw["value"], path) if "value" in raw else np.ones(rows),
            "request": raw["request_id"].fillna("").astype(str) if "request_id" in raw else np.full(rows, ""),
        }
    )


def _ids(column: pd.Series[Any], path: Path) -> pd.Series[str]:
    _refuse_empty(column, path)
    return (column.astype(np.int64) if column.dtype.kind == "f" else column).astype(str)


def _items(column: pd.Series[Any], path: Path) -> pd.Series[str]:
    """Return the ids as the log of exposures writes them. A column of numbers with a gap was written with fractions: 318.0 is 318."""
    if column.dtype.kind in "fc":
        return _numbers(column, path).astype(np.int64).astype(str)
    texts = _ids(column, path)
    return texts.str.removesuffix(".0") if texts.str.fullmatch(r"\d+\.0").all() else texts


def _times(column: pd.Series[Any], path: Path) -> pd.Series[int]:
    """Return UTC seconds. A wrong unit is refused: it would put all outcomes outside of every window, without another sign."""
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        _refuse_empty(column, path)
        return pd.to_datetime(column, utc=True).dt.as_unit("s").astype(np.int64)
    times = _numbers(column, path)
    bad = np.flatnonzero(((times < 0) | (times > LATEST)).to_numpy())
    if len(bad):
        value = column.iloc[bad[0]]
        raise SourceError(
            f"{path}: row {bad[0] + 1} of the column timestamp is {value}, {wrong_unit(int(times.iloc[bad[0]]))} "
            f"({len(bad)} of {len(column)} rows)."
        )
    return times.astype(np.int64)


def _refuse_empty(column: pd.Series[Any], path: Path) -> None:
    missing = np.flatnonzero(column.isna().to_numpy())
    if len(missing):
        raise SourceError(
            f"{path}: row {missing[0] + 1} of the column {column.name} is empty ({len(missing)} of {len(column)} rows)."
        )


def _numbers(column: pd.Series[Any], path: Path) -> pd.Series[float]:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy(np.float64, na_value=np.nan)))
    if len(bad):
        raise SourceError(
            f"{path}: row {bad[0] + 1} of the column {column.name} is {column.iloc[bad[0]]!r}, which is not a finite number "
            f"({len(bad)} of {len(column)} rows)."
        )
    return numbers
