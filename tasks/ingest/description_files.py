"""Read the files that describe items and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from configs.errors import SourceError
from models.columns import Columns
from tasks.ingest.events import OTHER_NAMES, Checks, Mask, TextIds, read_ids, row_times, texts_of, trimmed
from tasks.ingest.metadata import TABLES, UNDESCRIBED, cleaned, is_said
from tasks.ingest.table_reading import ATOMIC_NAMES, Kind, TableReading
from tasks.tables import column_names, read_cells

__all__ = ["PLAIN_TABLES", "DescriptionFile", "description_kind", "descriptions_of", "read_descriptions"]

PLAIN_TABLES: Mapping[Kind, TableReading] = {"items": TableReading(), "users": TableReading()}
KNOWN = frozenset(
    {
        *(*Columns.EVENT, *Columns.ITEM_DESCRIPTION, *Columns.USER_DESCRIPTION, Columns.UPDATED_AT),
        *(*Columns.ALIASES, *ATOMIC_NAMES),
    }
)
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DescriptionFile:
    """A file's good rows (id, description, and the time of each cell) and its bad ones (Columns.BAD_ROW)."""

    frame: pd.DataFrame
    quarantined: pd.DataFrame
    rows: int
    extra_columns: tuple[str, ...]
    ids: pa.Table | None = None  # the distinct numbers and texts of the good rows, if the ids are text


def description_kind(path: Path, readings: Mapping[Kind, TableReading] = PLAIN_TABLES) -> Kind | None:
    """Return what the columns of a CSV or Parquet file describe, or None if it holds events or anything else.

    The ids and times decide: a file with users, items and times (or ratings) holds events, whatever other columns it has.

    Args:
        path: The file.
        readings: How tables are written.

    Raises:
        SourceError: The file has users and items without times, beside columns that describe one of them, or its one id may be
            that of either.
    """
    given, is_atomic = _columns(path, readings)
    if readings["items"].holds_events(given):
        return None
    names = {kind: readings[kind].renamed(given, is_atomic=is_atomic) for kind in TABLES}
    telling = {kind: _telling(kind, readings[kind], given, names[kind]) for kind in TABLES}
    has_id = {kind: table.id in names[kind] for kind, table in TABLES.items()}
    fitting = [kind for kind in TABLES if has_id[kind] and telling[kind]]
    if not all(has_id.values()):
        return fitting[0] if fitting else None
    shared = [name for name, *own in zip(given, *names.values(), strict=True) if own == [table.id for table in TABLES.values()]]
    if shared:
        return _kind_by_columns(path, shared[0], telling)
    if fitting and not readings["items"].event_names & set(given):
        raise SourceError(
            f"{path} has {Columns.USER} and {Columns.ITEM}, but no {Columns.TIME}, so it may hold events or describe {fitting[0]}. "
            f"Add the column {Columns.TIME} to events, or remove the id that the file does not describe."
        )
    return None


def _telling(kind: Kind, reading: TableReading, given: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """Return the columns of a file by which it may describe a kind. `names` are their names in Columns."""
    marks = TABLES[kind].marks | set(reading.attributes)
    return frozenset(column for column, name in zip(given, names, strict=True) if name in marks)


def _kind_by_columns(path: Path, id_column: str, telling: Mapping[Kind, frozenset[str]]) -> Kind | None:
    """Return what a file describes whose one column of ids may be that of items and of users, or None if it describes neither.

    The columns decide that only one of the two kinds has and, if both have some, the name of the file.
    """
    fitting = [kind for kind in TABLES if telling[kind]]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    items, users = telling["items"], telling["users"]
    if (items <= users) != (users <= items):
        return "users" if items <= users else "items"
    stem = path.name.lower()
    named = [kind for kind, table in TABLES.items() if any(word in stem for word in OTHER_NAMES[table.id])]
    if len(named) == 1:
        return named[0]
    raise SourceError(
        f"{path} may describe items ({', '.join(sorted(items))}) or users ({', '.join(sorted(users))}): both have ids named {id_column}. "
        "Begin the name of the file with items or users. Or rename the column, and give its name as data.columns_items.item or "
        "data.columns_users.user."
    )


def read_descriptions(
    path: Path, kind: Kind, written: int, latest: int, readings: Mapping[Kind, TableReading] = PLAIN_TABLES
) -> DescriptionFile:
    """Read the rows of a description file.

    A row is bad if its id or `updated_at` is invalid, or if it has too many or too few cells. An impossible cell (a year of 1066, an
    age of 900) counts as empty. Several rows may describe one id.

    Args:
        path: A CSV or Parquet file.
        kind: What it describes.
        written: Time when the file was written, in UTC seconds. It is the time of rows without an `updated_at`.
        latest: The greatest valid `updated_at`, in UTC seconds.
        readings: How tables are written.

    Raises:
        SourceError: The file is empty or damaged, lacks the id column, or has two columns for one name or bytes that are not text.
    """
    table = TABLES[kind]
    raw, misshapen, reading = _read(path, kind, readings[kind])
    if raw.columns.duplicated().any():
        raise SourceError(f"{path} has two columns for {raw.columns[raw.columns.duplicated()][0]}. Remove one.")
    if table.id not in raw:
        raise SourceError(f"{path} lacks the column {table.id}; its columns are {', '.join(map(str, raw.columns))[:200]}.")
    return descriptions_of(kind, raw, misshapen, (written, latest), reading)


def descriptions_of(
    kind: Kind, raw: pd.DataFrame, misshapen: Mask, times: tuple[int, int], reading: TableReading
) -> DescriptionFile:
    """Return the rows of a table as `read_descriptions` does.

    Args:
        kind: What the table describes.
        raw: The table. It has the id.
        misshapen: The rows with too many or too few cells.
        times: `written` and `latest`.
        reading: How the table is written.
    """
    table = TABLES[kind]
    columns = (*table.columns, *reading.attributes)
    known = [table.id, *columns, Columns.UPDATED_AT]
    extra = tuple(str(name).removeprefix("other ") for name in raw.columns if name not in known)
    provided = raw.reindex(columns=[name for name in known if name in raw.columns])
    checks = Checks(kind, provided)
    checks.mark(misshapen, "has more or fewer cells than there are columns")
    ids, texts = _ids(checks, table.id, reading)
    at = _times(checks, reading, *times)
    frame = cleaned(provided.assign(**{table.id: ids}), kind)
    frame = frame.assign(**{name: _attribute(provided, name) for name in reading.attributes})
    said = {name: is_said(name, provided, frame) for name in columns}
    frame = frame.assign(**{Columns.time_of(name): np.where(mask, at, UNDESCRIBED) for name, mask in said.items()})
    frame = frame.assign(**{Columns.origin_of(name): 0 for name in columns})
    pairs = None if texts is None else texts.pairs(~checks.bad)
    return DescriptionFile(frame[~checks.bad].reset_index(drop=True), checks.quarantined(), len(provided), extra, pairs)


def _ids(checks: Checks, column: str, reading: TableReading) -> tuple[IntArray, TextIds | None]:
    """Return the ids of a table, with their texts if they are text, and mark the rows whose id is bad."""
    if reading.id_is_text:
        texts = read_ids(texts_of(checks.raw[column]), reading.refused)
        for reason, rows in texts.faults.items():
            checks.mark(rows, f"{column} {reason}")
        return texts.numbers, texts
    ids = checks.numbers(column, whole=True).astype(np.int64)
    checks.mark(~checks.bad & (ids < 0), f"{column} is negative")
    return ids, None


def _attribute(provided: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return an attribute as text: numbers in their shortest form, without surrounding spaces, and missing cells as missing."""
    if name not in provided:
        return pd.Series([pd.NA] * len(provided), dtype="string", index=provided.index)
    cells: pd.Series[Any] = pd.Series(trimmed(texts_of(provided[name])).to_pandas(), dtype="string", index=provided.index)
    return cells


def _times(checks: Checks, reading: TableReading, written: int, latest: int) -> IntArray:
    """Return the time of each row in UTC seconds, and mark rows whose `updated_at` is invalid."""
    name = Columns.UPDATED_AT
    if name not in checks.raw:
        return np.full(len(checks.raw), written, dtype=np.int64)
    seconds, given = row_times(checks, name, reading.timestamp_format, reading.timezone)
    checks.mark(~checks.faulty(name) & (seconds < 0), f"{name} is negative")
    checks.mark(~checks.faulty(name) & (seconds > latest), f"{name} lies in the future")
    return np.where(given, seconds, written).astype(np.int64)


def _columns(path: Path, readings: Mapping[Kind, TableReading]) -> tuple[list[str], bool]:
    """Return the columns of a file, and whether it is an atomic one. The list is empty for an unreadable file."""
    try:
        return column_names(path, KNOWN.union(*(reading.known_names for reading in readings.values())))
    except SourceError:
        return [], False


def _read(path: Path, kind: Kind, reading: TableReading) -> tuple[pd.DataFrame, Mask, TableReading]:
    """Return the cells, a mask of the rows with more or fewer cells than there are columns, and how to read the cells.

    As in files of events, Parquet timestamps without a zone are in UTC unless the settings name another one.
    """
    cells = read_cells(path, KNOWN | reading.known_names, of=kind)
    frame = cells.frame.set_axis(reading.renamed([str(name) for name in cells.frame.columns], is_atomic=cells.is_atomic), axis=1)
    if cells.is_atomic and Columns.GENRES in frame and frame.columns.is_unique:
        frame[Columns.GENRES] = frame[Columns.GENRES].str.replace(" ", "|")  # a sequence of tokens
    names = dict(zip(map(str, cells.frame.columns), map(str, frame.columns), strict=True))
    known = {TABLES[kind].id, *TABLES[kind].columns, *reading.attributes, Columns.UPDATED_AT}
    if damaged := [fault for given, fault in cells.faults.items() if names[given] in known]:
        raise SourceError(" ".join(damaged))
    if reading.timezone is None and any(names[given] == Columns.UPDATED_AT for given in cells.moments):
        reading = replace(reading, timezone="UTC")
    return frame, cells.misshapen, reading
