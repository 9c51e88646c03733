"""Descriptions of items and users: the files that contain them, and the tables that they update.

A table has one row for each item (user) that has an event or a description. Descriptions are merged cell by cell: a file changes
only the columns that it has, and an empty cell says nothing, so the earlier value stays. `(no genres listed)` empties the genres.
For each id and column, the newest value counts. Its time is the row's own `updated_at` (UTC seconds), and otherwise the time when
the file was written. Of two values of the same second the greater one counts, in the order of numbers or text. So neither the order
of rows nor the order in which files are read matters.
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
from tasks.ingest.events import Checks
from tasks.ingest.movielens import with_year
from tasks.tables import MILLISECONDS_FROM, column_names, read_cells

__all__ = [
    "ANY_TIME",
    "TABLES",
    "DescriptionFile",
    "Kind",
    "described",
    "description_kind",
    "forgotten",
    "public",
    "read_descriptions",
    "seeded",
    "with_events",
    "with_times",
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
UNDESCRIBED, RELEASE = -2, -1  # the time of a cell that nothing describes, and of one from a release
ANY_TIME = 2**62  # a limit for times that were checked where they were read
WHOLE_BELOW = 2.0**53  # whole numbers below this are exact in float64


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
    """A file's good rows (id, description, and the time of each cell) and its bad ones (Columns.BAD_ROW)."""

    frame: pd.DataFrame
    quarantined: pd.DataFrame
    rows: int
    extra_columns: tuple[str, ...]


def description_kind(path: Path) -> Kind | None:
    """Return what the columns of a CSV or Parquet file describe, or None if it holds events or anything else.

    The ids and times decide: a file with users, items and times (or ratings) holds events, whatever other columns it has.

    Raises:
        SourceError: The file has users and items without times, beside columns that describe one of them.
    """
    names = {Columns.ALIASES.get(name, name) for name in _columns(path)}
    fitting: list[Kind] = [kind for kind, table in TABLES.items() if table.id in names and table.marks & names]
    if not {Columns.USER, Columns.ITEM} <= names:
        return fitting[0] if fitting else None
    if fitting and not {Columns.TIME, Columns.RATING} & names:
        raise SourceError(
            f"{path} has {Columns.USER} and {Columns.ITEM}, but no {Columns.TIME}, so it may hold events or describe {fitting[0]}. "
            f"Add the column {Columns.TIME} to events, or remove the id that the file does not describe."
        )
    return None


def read_descriptions(path: Path, kind: Kind, written: int, latest: int) -> DescriptionFile:
    """Read the rows of a description file.

    A row is bad if its id or `updated_at` is invalid, or if it has too many or too few cells. An impossible cell (a year of 1066, an
    age of 900) counts as empty. Several rows may describe one id.

    Args:
        path: A CSV or Parquet file.
        kind: What it describes.
        written: Time when the file was written, in UTC seconds. It is the time of rows without an `updated_at`.
        latest: The greatest valid `updated_at`, in UTC seconds.

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
    times = _times(checks, written, latest)
    frame = _cleaned(provided.assign(**{table.id: ids}), kind)
    said = {name: _is_said(name, provided, frame) for name in table.columns}
    frame = frame.assign(**{Columns.time_of(name): np.where(mask, times, UNDESCRIBED) for name, mask in said.items()})
    frame = frame.assign(**{Columns.origin_of(name): 0 for name in table.columns})
    return DescriptionFile(frame[~checks.bad].reset_index(drop=True), checks.quarantined(), len(provided), extra)


def _times(checks: Checks, written: int, latest: int) -> npt.NDArray[np.int64]:
    """Return the time of each row in UTC seconds, and mark rows whose `updated_at` is invalid."""
    name = Columns.UPDATED_AT
    if name not in checks.raw:
        return np.full(len(checks.raw), written, dtype=np.int64)
    given = checks.raw[name].notna().to_numpy(np.bool_)
    values = pd.to_numeric(checks.raw[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < WHOLE_BELOW)
    seconds = np.where(whole, values, 0).astype(np.int64)
    checks.mark(given & (~whole | (seconds < 0)), f"{name} is no time in UTC seconds")
    checks.mark(seconds > MILLISECONDS_FROM, f"{name} is in milliseconds, not seconds")
    checks.mark((seconds <= MILLISECONDS_FROM) & (seconds > latest), f"{name} lies in the future")
    return np.where(given, seconds, written).astype(np.int64)


def _is_said(name: str, provided: pd.DataFrame, cleaned: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows that say something about a column. Empty genres can be said: `(no genres listed)`."""
    said = cleaned[name].notna() & cleaned[name].astype("string").ne("").fillna(False)
    if name == Columns.GENRES and name in provided:
        said = provided[name].notna() & provided[name].astype("string").ne("").fillna(False)
    return said.to_numpy(np.bool_)


def seeded(kind: Kind, table: pd.DataFrame | None, ids: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the initial table, from a release's table or from nothing. `ids` are those that have events."""
    known = TABLES[kind]
    if table is None:
        empty = pd.DataFrame({name: pd.Series(dtype="string") for name in (known.id, *known.columns)})
        table = _cleaned(empty.assign(**{known.id: np.empty(0, dtype=np.int64)}), kind)
    return with_events(kind, _with_state(kind, table, has_events=False, time=RELEASE), ids)


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
    added = _with_state(kind, _cleaned(empty.assign(**{known.id: missing}), kind), has_events=True, time=UNDESCRIBED)
    return pd.concat([marked, added], ignore_index=True).sort_values(known.id, ignore_index=True)


def described(kind: Kind, table: pd.DataFrame, provided: pd.DataFrame, latest: int) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Apply newer descriptions to the table, cell by cell.

    Args:
        kind: What the table describes.
        table: The table.
        provided: Concatenated frames of `DescriptionFile`, with the origin of each cell.
        latest: The greatest valid time in UTC seconds. A later one in the table, which an earlier version let in, is no obstacle.

    Returns:
        The updated table, and a mask of the rows of `provided` of which a cell was applied.
    """
    known = TABLES[kind]
    is_touched = np.isin(table[known.id].to_numpy(np.int64), provided[known.id].to_numpy(np.int64))
    both = pd.concat([table[is_touched], provided.assign(**{Columns.HAS_EVENTS: False})], ignore_index=True)
    is_old = np.arange(len(both)) < int(is_touched.sum())
    ids, places = np.unique(both[known.id].to_numpy(np.int64), return_inverse=True)
    counts = np.zeros(len(both), dtype=bool)
    columns: dict[str, Any] = {known.id: ids}
    for name in known.columns:
        times = both[Columns.time_of(name)].to_numpy(np.int64)
        times = np.where(is_old & (times > latest), RELEASE, times)
        order = np.lexsort((-np.arange(len(both)), is_old, _ranks(both[name]), times, places))
        last = order[np.append(places[order][1:] != places[order][:-1], True)[: len(order)]]
        counts[last[times[last] > UNDESCRIBED]] = True
        columns[name] = both[name].iloc[last].array
        columns[Columns.time_of(name)] = times[last]
        columns[Columns.origin_of(name)] = both[Columns.origin_of(name)].to_numpy(np.int64)[last]
    had_events = np.zeros(len(ids), dtype=bool)
    had_events[places[is_old]] = both[Columns.HAS_EVENTS].to_numpy(bool)[is_old]
    is_kept = np.zeros(len(ids), dtype=bool)  # a new id about which nothing is said is left out
    is_kept[places[is_old | counts]] = True
    merged = pd.DataFrame({**columns, Columns.HAS_EVENTS: had_events})[is_kept]
    updated = pd.concat([table[~is_touched], merged[list(table)]], ignore_index=True).sort_values(known.id, ignore_index=True)
    return updated, counts[is_old.sum() :]


def forgotten(
    kind: Kind,
    table: pd.DataFrame,
    with_events: npt.NDArray[np.int64],
    gone: int | None,
    origins: npt.NDArray[np.int64],
    base: pd.DataFrame | None,
) -> tuple[pd.DataFrame, int]:
    """Take descriptions out of the table.

    Args:
        kind: What the table describes.
        table: The table.
        with_events: The ids that have events now.
        gone: An id that is taken out as a whole, if there is one.
        origins: Origins of the cells that are taken out.
        base: The table whose cells come in their place. Without it, they become empty.

    Returns:
        The table without ids that have neither events nor a description, and the number of cells and rows that were taken out.
    """
    known = TABLES[kind]
    ids = table[known.id].to_numpy(np.int64)
    base = seeded(kind, None, np.empty(0, dtype=np.int64)) if base is None else base
    earlier = base.set_index(known.id).reindex(ids)
    kept = ids != gone if gone is not None else np.ones(len(ids), dtype=bool)
    columns: dict[str, Any] = {}
    count = 0
    is_described = np.zeros(len(ids), dtype=bool)
    for name in known.columns:
        time, origin = Columns.time_of(name), Columns.origin_of(name)
        out = np.isin(table[origin].to_numpy(np.int64), origins)
        values = earlier[name].fillna("") if kind == "items" and name != Columns.YEAR else earlier[name]
        columns[name] = table[name].where(~out, pd.Series(values.array, index=table.index))
        columns[time] = np.where(out, earlier[time].fillna(UNDESCRIBED).to_numpy(np.int64), table[time])
        columns[origin] = np.where(out, 0, table[origin])
        is_described |= columns[time] > UNDESCRIBED
        count += int(out.sum())
    has_events = np.isin(ids, with_events)
    kept &= has_events | is_described
    updated = table.assign(**columns, **{Columns.HAS_EVENTS: has_events})[kept].reset_index(drop=True)
    return updated, count + int((ids == gone).sum())


def with_times(kind: Kind, table: pd.DataFrame) -> pd.DataFrame:
    """Return a stored table with the time and origin of each cell. Earlier versions stored one time for a complete row."""
    if Columns.time_of(TABLES[kind].columns[0]) in table:
        return table
    at = table[Columns.DESCRIBED_AT].to_numpy(np.int64)
    seconds = np.where(at < 0, at, at // 10**9)
    has_events = table[Columns.HAS_EVENTS].to_numpy(bool)
    return _with_state(kind, public(kind, table), has_events=has_events, time=seconds)


def public(kind: Kind, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the table that a dataset version exposes."""
    return table[[TABLES[kind].id, *TABLES[kind].columns]]


def _with_state(
    kind: Kind, table: pd.DataFrame, *, has_events: npt.NDArray[np.bool_] | bool, time: npt.NDArray[np.int64] | int
) -> pd.DataFrame:
    """Add what later files need to the public columns. `time` is that of each row's cells; empty ones are undescribed."""
    state: dict[str, Any] = {Columns.HAS_EVENTS: has_events}
    for name in TABLES[kind].columns:
        said = _is_said(name, table.iloc[:, :0], table)
        state[Columns.time_of(name)] = np.where(said, time, UNDESCRIBED).astype(np.int64)
        state[Columns.origin_of(name)] = np.zeros(len(table), dtype=np.int64)
    return table.assign(**state)


def _ranks(cells: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return the place of each cell in the order of its values. Missing ones come first."""
    if pd.api.types.is_numeric_dtype(cells):
        return np.asarray(cells.fillna(-1).to_numpy(np.int64))
    texts = cells.fillna("").to_numpy(object).astype(str)
    return np.unique(texts, return_inverse=True)[1].astype(np.int64)


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
