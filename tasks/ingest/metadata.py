"""Descriptions of items and users: the files that contain them, and the tables that they update.

A table has one row for each item (user) that has an event or a description. The newest description counts. Its time is its own
`updated_at` (UTC seconds) if the file has that column, and otherwise the time when the file was written. At equal times, the
file with the greater sha256 counts. So the order in which files are read does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import SourceError
from models.columns import Columns
from tasks.ingest.movielens import with_year
from tasks.ingest.row_checks import Checks
from tasks.tables import column_names, read_cells

__all__ = [
    "TABLES",
    "DescriptionFile",
    "Kind",
    "described",
    "description_kind",
    "public",
    "read_descriptions",
    "seeded",
    "with_events",
]

Kind = Literal["items", "users"]
# RecBole's ml-100k calls genres "class", and its ml-1m "genre".
ATOMIC_NAMES = {
    "class": Columns.GENRES,
    "genre": Columns.GENRES,
    "movie_title": Columns.TITLE,
    "release_year": Columns.YEAR,
}
KNOWN = {
    *(*Columns.EVENT, *Columns.ITEM_DESCRIPTION, *Columns.USER_DESCRIPTION, Columns.UPDATED_AT),
    *(*Columns.ALIASES, *ATOMIC_NAMES),
}
UNDESCRIBED, RELEASE = -2, -1  # described_at of a row without a description, and of one from a release


@dataclass(frozen=True)
class Table:
    """An id column, and the columns that may describe it."""

    id: str
    columns: tuple[str, ...]
    marks: frozenset[str]  # a file of this kind has the id and at least one of these columns


TABLES: dict[Kind, Table] = {
    "items": Table(Columns.ITEM, Columns.ITEM_DESCRIPTION, frozenset({Columns.TITLE, Columns.GENRES})),
    "users": Table(Columns.USER, Columns.USER_DESCRIPTION, frozenset(Columns.USER_DESCRIPTION)),
}


@dataclass(frozen=True, eq=False)
class DescriptionFile:
    """A file's good rows (id, description, DESCRIBED_AT, DESCRIBED_IN) and its bad ones (Columns.BAD_ROW)."""

    frame: pd.DataFrame
    quarantined: pd.DataFrame
    rows: int
    extra_columns: tuple[str, ...]


def description_kind(path: Path) -> Kind | None:
    """Return what the columns of a CSV or Parquet file describe, or None if it holds events or anything else."""
    names = {Columns.ALIASES.get(name, name) for name in _columns(path)}
    if Columns.RATING in names:
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
    raw, misshapen = _read(path, kind)
    raw = raw.rename(columns=Columns.ALIASES)
    if raw.columns.duplicated().any():
        raise SourceError(f"{path} has two columns for {raw.columns[raw.columns.duplicated()][0]}. Remove one.")
    if table.id not in raw:
        raise SourceError(f"{path} lacks the column {table.id}; its columns are {', '.join(map(str, raw.columns))[:200]}.")
    known = [table.id, *table.columns, Columns.UPDATED_AT]
    extra = tuple(str(name) for name in raw.columns if name not in known)
    provided = raw.reindex(columns=[name for name in known if name in raw.columns])
    checks = Checks(kind, provided)
    checks.mark(misshapen, "has more or fewer cells than there are columns")
    ids = checks.numbers(table.id, whole=True)
    checks.mark(~checks.bad & (ids < 0), f"{table.id} is negative")
    at = np.full(len(provided), modified_ns, dtype=np.int64)
    if Columns.UPDATED_AT in provided:
        seconds = checks.numbers(Columns.UPDATED_AT, whole=True).astype(np.int64)
        checks.mark(~checks.bad & ((seconds < 0) | (seconds > 9_000_000_000)), f"{Columns.UPDATED_AT} is no time in UTC seconds")
        at = np.where(checks.bad, 0, seconds) * 10**9
    good = np.flatnonzero(~checks.bad)
    repeated = np.zeros(len(provided), dtype=bool)
    repeated[good] = pd.Series(ids[good]).duplicated(keep="first").to_numpy()
    checks.mark(repeated, f"{table.id} stands in an earlier row")
    frame = _cleaned(provided.assign(**{table.id: ids}), kind)
    frame = frame.assign(**{Columns.DESCRIBED_AT: at}).assign(**{Columns.DESCRIBED_IN: sha256})
    return DescriptionFile(frame[~checks.bad].reset_index(drop=True), checks.quarantined(), len(provided), extra)


def seeded(kind: Kind, table: pd.DataFrame | None, ids: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the initial table, from a release's table or from nothing. `ids` are those that have events."""
    known = TABLES[kind]
    if table is None:
        empty = pd.DataFrame({name: pd.Series(dtype="string") for name in (known.id, *known.columns)})
        table = _cleaned(empty.assign(**{known.id: np.empty(0, dtype=np.int64)}), kind)
    if kind == "items":
        is_described = table[Columns.TITLE].ne("").to_numpy(bool)
    else:
        is_described = table[list(known.columns)].notna().any(axis=1).to_numpy()
    described_at = np.where(is_described, RELEASE, UNDESCRIBED).astype(np.int64)
    return with_events(kind, _with_state(table, has_events=False, described_at=described_at), ids)


def with_events(kind: Kind, table: pd.DataFrame, ids: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the table in which these items (users) are marked as having events.

    Missing ids are added without a description. The table itself is returned if nothing changes.
    """
    known = TABLES[kind]
    own = table[known.id].to_numpy(np.int64)
    missing = np.setdiff1d(ids, own)
    marks = table[Columns.HAS_EVENTS].to_numpy(bool)
    if not len(missing) and bool(marks[np.isin(own, ids)].all()):
        return table
    marked = table.assign(**{Columns.HAS_EVENTS: marks | np.isin(own, ids)})
    if not len(missing):
        return marked
    empty = pd.DataFrame({name: pd.Series([pd.NA] * len(missing), dtype="string") for name in known.columns})
    added = _with_state(_cleaned(empty.assign(**{known.id: missing}), kind), has_events=True, described_at=UNDESCRIBED)
    return pd.concat([marked, added], ignore_index=True).sort_values(known.id, ignore_index=True)


def described(kind: Kind, table: pd.DataFrame, provided: pd.DataFrame) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Apply newer descriptions to the table.

    Args:
        provided: Concatenated frames of `DescriptionFile`.

    Returns:
        The updated table, and a mask of the rows of `provided` that are newer and were applied.
    """
    known = TABLES[kind]
    both = pd.concat([table, provided.assign(**{Columns.HAS_EVENTS: False})], ignore_index=True)
    origins = np.unique(both[Columns.DESCRIBED_IN].to_numpy(object).astype(str), return_inverse=True)[1]
    ids = both[known.id].to_numpy(np.int64)
    order = np.lexsort((origins, both[Columns.DESCRIBED_AT].to_numpy(np.int64), ids))
    last = order[np.append(ids[order][1:] != ids[order][:-1], True)[: len(order)]]
    had_events = np.isin(ids[last], table[known.id].to_numpy(np.int64)[table[Columns.HAS_EVENTS].to_numpy(bool)])
    counts = np.zeros(len(both), dtype=bool)
    counts[last] = True
    return both.iloc[last].assign(**{Columns.HAS_EVENTS: had_events}).reset_index(drop=True), counts[len(table) :]


def public(kind: Kind, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the table that a dataset version exposes."""
    return table[[TABLES[kind].id, *TABLES[kind].columns]]


def _with_state(table: pd.DataFrame, *, has_events: bool, described_at: npt.NDArray[np.int64] | int) -> pd.DataFrame:
    """Add what later files need to the public columns."""
    state: dict[str, Any] = {
        Columns.HAS_EVENTS: has_events,
        Columns.DESCRIBED_AT: described_at,
        Columns.DESCRIBED_IN: pd.Series([""] * len(table), dtype="string"),
    }
    return table.assign(**state)


def _cleaned(provided: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    if kind == "items":
        return _cleaned_items(provided)
    columns: dict[str, Any] = {Columns.USER: provided[Columns.USER].to_numpy(np.int64)}
    for name in TABLES["users"].columns:
        cells = provided[name] if name in provided else pd.Series([pd.NA] * len(provided), dtype="string")
        if name == Columns.AGE:
            age = pd.to_numeric(cells, errors="coerce").astype("Float64")
            columns[name] = age.where((age >= 0) & (age <= 150)).round().astype("Int64").array
        else:
            columns[name] = cells.astype("string").array
    return pd.DataFrame(columns)


def _cleaned_items(provided: pd.DataFrame) -> pd.DataFrame:
    absent = pd.Series([pd.NA] * len(provided), dtype="string")
    frame = pd.DataFrame({Columns.ITEM: provided[Columns.ITEM].to_numpy(np.int64)})
    for name in (Columns.TITLE, Columns.GENRES):
        frame[name] = (provided[name].astype("string") if name in provided else absent).fillna("").array
    has_year = Columns.YEAR in provided
    frame = frame.assign(**{Columns.YEAR: provided[Columns.YEAR].array}) if has_year else with_year(frame)
    numbers = pd.to_numeric(frame[Columns.YEAR], errors="coerce").astype("Float64")
    possible = (numbers >= 1870) & (numbers <= 2100) & (numbers == numbers.round())
    return pd.DataFrame(
        {
            Columns.ITEM: frame[Columns.ITEM],
            Columns.TITLE: frame[Columns.TITLE].astype("string").array,
            Columns.YEAR: numbers.where(possible).astype("Int64").array,
            Columns.GENRES: frame[Columns.GENRES].astype("string").replace("(no genres listed)", "").array,
        }
    )


def _columns(path: Path) -> list[str]:
    """Return the columns of a file, as `_read` names them. The list is empty for an unreadable file."""
    try:
        names, is_atomic = column_names(path, KNOWN)
    except SourceError:
        return []
    return [ATOMIC_NAMES.get(name, name) for name in names] if is_atomic else names


def _read(path: Path, kind: Kind) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Return the cells, and a mask of the rows with more or fewer cells than there are columns."""
    cells = read_cells(path, KNOWN, of=kind)
    if not cells.is_atomic:
        return cells.frame, cells.misshapen
    frame = cells.frame.rename(columns=ATOMIC_NAMES)
    if Columns.GENRES in frame and frame.columns.is_unique:
        frame[Columns.GENRES] = frame[Columns.GENRES].str.replace(" ", "|")  # a sequence of tokens
    return frame, cells.misshapen
