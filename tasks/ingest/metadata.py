"""Descriptions of items and users: the files that contain them, and the tables that they update.

A table has one row for each item (user) that is rated or described. The newest description counts. Its time is its own
`updated_at` (UTC seconds) if the file has that column, and otherwise the time when the file was written. At equal times, the
file with the greater sha256 counts. So the order in which files are read does not matter.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import SourceError
from tasks.ingest.event_files import DAMAGE
from tasks.ingest.movielens import with_year
from tasks.ingest.row_checks import Checks

__all__ = ["TABLES", "DescriptionFile", "Kind", "described", "description_kind", "public", "rated", "read_descriptions", "seeded"]

Kind = Literal["items", "users"]
NAMES = {"movieId": "movie_id", "item_id": "movie_id", "userId": "user_id"}
UPDATED = "updated_at"
UNDESCRIBED, RELEASE = -2, -1  # described_at of a row without a description, and of one from a release
STATE = ["rated", "described_at", "described_in"]  # in addition to the public columns: bool, UTC nanoseconds, sha256


@dataclass(frozen=True)
class Table:
    """An id column, and the columns that may describe it."""

    id: str
    columns: tuple[str, ...]
    marks: frozenset[str]  # a file of this kind has the id and at least one of these columns


TABLES: dict[Kind, Table] = {
    "items": Table("movie_id", ("title", "year", "genres"), frozenset({"title", "genres"})),
    "users": Table(
        "user_id", ("gender", "age", "occupation", "zip_code"), frozenset({"gender", "age", "occupation", "zip_code"})
    ),
}


@dataclass(frozen=True, eq=False)
class DescriptionFile:
    """A file's good rows (id, description, described_at, described_in) and its bad ones (row, reasons, cells)."""

    frame: pd.DataFrame
    quarantined: pd.DataFrame
    reasons: dict[str, int]
    rows: int
    extra_columns: tuple[str, ...]


def description_kind(path: Path) -> Kind | None:
    """Return what the columns of a CSV or Parquet file describe, or None if it holds events or anything else."""
    names = {NAMES.get(name, name) for name in _columns(path)}
    if "rating" in names:
        return None
    return next((kind for kind, table in TABLES.items() if table.id in names and table.marks & names), None)


def read_descriptions(path: Path, kind: Kind, modified_ns: int, sha256: str) -> DescriptionFile:
    """Read the rows of a description file.

    A row is bad if its id or `updated_at` is invalid, if its id occurs in an earlier row, or if it has too many or too few cells.
    An impossible cell (a year of 1066, an age of 900) counts as missing.

    Args:
        modified_ns: Time when the file was written, in UTC nanoseconds. It is used if the file has no `updated_at`.

    Raises:
        SourceError: The file is empty or damaged, lacks the id column, or has two columns for one name.
    """
    table = TABLES[kind]
    raw, misshapen = _read(path)
    raw = raw.rename(columns=NAMES)
    if raw.columns.duplicated().any():
        raise SourceError(f"{path} has two columns for {raw.columns[raw.columns.duplicated()][0]}. Remove one.")
    if table.id not in raw:
        raise SourceError(f"{path} lacks the column {table.id}; its columns are {', '.join(map(str, raw.columns))[:200]}.")
    known = [table.id, *table.columns, UPDATED]
    extra = tuple(str(name) for name in raw.columns if name not in known)
    told = raw.reindex(columns=[name for name in known if name in raw.columns])
    checks = Checks(kind, told)
    checks.mark(misshapen, "has more or fewer cells than there are columns")
    ids = checks.numbers(table.id, whole=True)
    checks.mark(~checks.bad & (ids < 0), f"{table.id} is negative")
    at = np.full(len(told), modified_ns, dtype=np.int64)
    if UPDATED in told:
        seconds = checks.numbers(UPDATED, whole=True).astype(np.int64)
        checks.mark(~checks.bad & ((seconds < 0) | (seconds > 9_000_000_000)), f"{UPDATED} is no time in UTC seconds")
        at = np.where(checks.bad, 0, seconds) * 10**9
    good = np.flatnonzero(~checks.bad)
    repeated = np.zeros(len(told), dtype=bool)
    repeated[good] = pd.Series(ids[good]).duplicated(keep="first").to_numpy()
    checks.mark(repeated, f"{table.id} stands in an earlier row")
    frame = _cleaned(told.assign(**{table.id: ids}), kind).assign(described_at=at, described_in=sha256)
    return DescriptionFile(frame[~checks.bad].reset_index(drop=True), checks.quarantined(), checks.counts(), len(told), extra)


def seeded(kind: Kind, table: pd.DataFrame | None, ids: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the initial table with STATE, from a release's table or from nothing. `ids` are the rated ids."""
    known = TABLES[kind]
    if table is None:
        empty = pd.DataFrame({name: pd.Series(dtype="string") for name in (known.id, *known.columns)})
        table = _cleaned(empty.assign(**{known.id: np.empty(0, dtype=np.int64)}), kind)
    told = table["title"].ne("").to_numpy(bool) if kind == "items" else table[list(known.columns)].notna().any(axis=1).to_numpy()
    return rated(
        kind,
        table.assign(
            rated=False,
            described_at=np.where(told, RELEASE, UNDESCRIBED).astype(np.int64),
            described_in=pd.Series([""] * len(table), dtype="string"),
        ),
        ids,
    )


def rated(kind: Kind, table: pd.DataFrame, ids: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the table with these items (users) marked as rated.

    Missing ids are added without a description. The table itself is returned if nothing changes.
    """
    known = TABLES[kind]
    own = table[known.id].to_numpy(np.int64)
    missing = np.setdiff1d(ids, own)
    if not len(missing) and bool(table["rated"].to_numpy(bool)[np.isin(own, ids)].all()):
        return table
    marked = table.assign(rated=table["rated"].to_numpy(bool) | np.isin(own, ids))
    if not len(missing):
        return marked
    empty = pd.DataFrame({name: pd.Series([pd.NA] * len(missing), dtype="string") for name in known.columns})
    added = _cleaned(empty.assign(**{known.id: missing}), kind).assign(
        rated=True, described_at=UNDESCRIBED, described_in=pd.Series([""] * len(missing), dtype="string")
    )
    return pd.concat([marked, added], ignore_index=True).sort_values(known.id, ignore_index=True)


def described(kind: Kind, table: pd.DataFrame, told: pd.DataFrame) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Apply newer descriptions to the table.

    Args:
        told: Concatenated frames of `DescriptionFile`.

    Returns:
        The updated table, and a mask of the rows of `told` that are newer and were applied.
    """
    known = TABLES[kind]
    both = pd.concat([table, told.assign(rated=False)], ignore_index=True)
    origins = np.unique(both["described_in"].to_numpy(object).astype(str), return_inverse=True)[1]
    ids = both[known.id].to_numpy(np.int64)
    order = np.lexsort((origins, both["described_at"].to_numpy(np.int64), ids))
    last = order[np.append(ids[order][1:] != ids[order][:-1], True)[: len(order)]]
    was_rated = np.isin(ids[last], table[known.id].to_numpy(np.int64)[table["rated"].to_numpy(bool)])
    counts = np.zeros(len(both), dtype=bool)
    counts[last] = True
    return both.iloc[last].assign(rated=was_rated).reset_index(drop=True), counts[len(table) :]


def public(kind: Kind, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the table that a dataset version exposes."""
    return table[[TABLES[kind].id, *TABLES[kind].columns]]


def _cleaned(told: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    if kind == "items":
        return _cleaned_items(told)
    columns: dict[str, Any] = {"user_id": told["user_id"].to_numpy(np.int64)}
    for name in TABLES["users"].columns:
        cells = told[name] if name in told else pd.Series([pd.NA] * len(told), dtype="string")
        if name == "age":
            age = pd.to_numeric(cells, errors="coerce").astype("Float64")
            columns[name] = age.where((age >= 0) & (age <= 150)).round().astype("Int64").array
        else:
            columns[name] = cells.astype("string").array
    return pd.DataFrame(columns)


def _cleaned_items(told: pd.DataFrame) -> pd.DataFrame:
    absent = pd.Series([pd.NA] * len(told), dtype="string")
    frame = pd.DataFrame(
        {
            "movie_id": told["movie_id"].to_numpy(np.int64),
            **{name: (told[name].astype("string") if name in told else absent).fillna("").array for name in ("title", "genres")},
        }
    )
    frame = frame.assign(year=told["year"].array) if "year" in told else with_year(frame)
    numbers = pd.to_numeric(frame["year"], errors="coerce").astype("Float64")
    possible = (numbers >= 1870) & (numbers <= 2100) & (numbers == numbers.round())
    year = numbers.where(possible).astype("Int64")
    genres = frame["genres"].astype("string").replace("(no genres listed)", "")
    titles = frame["title"].astype("string")
    return pd.DataFrame({"movie_id": frame["movie_id"], "title": titles.array, "year": year.array, "genres": genres.array})


def _columns(path: Path) -> list[str]:
    """Return the columns of a CSV or Parquet file. The list is empty for any other file, and for an unreadable one."""
    try:
        if path.suffix == ".parquet":
            return list(pq.read_schema(path).names)
        if path.name.endswith((".csv", ".csv.gz")):
            return next(_csv_rows(path), [])
    except (SourceError, *DAMAGE):
        pass
    return []


def _read(path: Path) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Return the cells, and a mask of the rows with more or fewer cells than there are columns."""
    if path.suffix != ".parquet":
        header, *rows = list(_csv_rows(path)) or [[]]
        if not header:
            raise SourceError(f"{path} is empty. Provide a file with rows.")
        width = len(header)
        cells = [[cell or None for cell in (row + [""] * width)[:width]] for row in rows]
        frame = pd.DataFrame(cells, columns=header, dtype="string")
        return frame, np.array([len(row) != width for row in rows], dtype=bool)
    try:
        table = pq.read_table(path)
        columns = dict(zip(table.column_names, map(_text, table.columns), strict=True))
    except DAMAGE as error:
        raise SourceError(f"{path} is damaged: {error}. Write or copy it again.") from error
    if len(columns) < table.num_columns:
        raise SourceError(f"{path} has two columns with the same name. Remove one.")
    return pd.DataFrame(columns), np.zeros(table.num_rows, dtype=bool)


def _text(column: pa.ChunkedArray) -> pd.Series[Any]:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        numbers: pd.Series[Any] = column.to_pandas(integer_object_nulls=True)
        return numbers
    texts = pd.Series([None if value is None else str(value) for value in column.to_pylist()], dtype="string")
    return texts


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """Yield the header and the rows of a CSV file, without empty lines."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="") as file
        ):
            yield from (row for row in csv.reader(file) if row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a table: {error}. It is damaged or in another format.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path} is cut short or damaged: {error}. Copy it again.") from error
