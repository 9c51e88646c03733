"""Descriptions of items and users: the tables that hold them, and how files update them.

A table has one row for each item (user) that has an event or a description. Descriptions are merged cell by cell: a file changes
only the columns that it has, and an empty cell says nothing, so the earlier value stays. `(no genres listed)` empties the genres.
For each id and column, the newest value counts. Its time is the row's own `updated_at`, and otherwise the time when
the file was written. Of two values of the same second the greater one counts, in the order of numbers or text. So neither the order
of rows nor the order in which files are read matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.ingest.attributes import attributes_in, compact, refuse_clashes, typed, widened, written
from tasks.ingest.movielens import with_year
from tasks.ingest.table_reading import Kind

__all__ = [
    "ANY_TIME",
    "RELEASE",
    "TABLES",
    "UNDESCRIBED",
    "attributes_of",
    "cleaned",
    "compacted",
    "described",
    "forgotten",
    "is_said",
    "public",
    "seeded",
    "with_events",
    "with_times",
]

UNDESCRIBED, RELEASE = -2, -1  # the time of a cell that nothing describes, and of one from a release
ANY_TIME = 2**62  # a limit for times that were checked where they were read


@dataclass(frozen=True)
class Table:
    """An id column, and the columns that may describe it."""

    id: str
    columns: tuple[str, ...]
    marks: frozenset[str]  # a file of this kind has the id and at least one of these columns

    def described_in(self, *tables: pd.DataFrame) -> list[str]:
        """Return the columns that describe: those that every table has, and the attributes that one of these tables has."""
        chosen = {name for table in tables for name in attributes_in(table, (self.id, *self.columns))}
        return [*self.columns, *sorted(chosen)]


TABLES: dict[Kind, Table] = {
    "items": Table(Columns.ITEM, Columns.ITEM_DESCRIPTION, frozenset({Columns.TITLE, Columns.GENRES})),
    "users": Table(Columns.USER, Columns.USER_DESCRIPTION, frozenset(Columns.USER_DESCRIPTION)),
}


def attributes_of(kind: Kind, table: pd.DataFrame) -> tuple[str, ...]:
    """Return the attributes of the team's choice that a table of items (users) has, in alphabetical order."""
    known = TABLES[kind]
    return tuple(attributes_in(table, (known.id, *known.columns)))


def is_said(name: str, provided: pd.DataFrame, cleaned: pd.DataFrame) -> npt.NDArray[np.bool_]:
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
        table = cleaned(empty.assign(**{known.id: np.empty(0, dtype=np.int64)}), kind)
    table = table.assign(**{name: written(table[name]) for name in known.described_in(table) if name not in known.columns})
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
    added = _with_state(kind, cleaned(empty.assign(**{known.id: missing}), kind), has_events=True, time=UNDESCRIBED)
    added = widened(added, known.described_in(table), UNDESCRIBED)
    return pd.concat([marked, added], ignore_index=True).sort_values(known.id, ignore_index=True)


def described(kind: Kind, table: pd.DataFrame, provided: pd.DataFrame, latest: int) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Apply newer descriptions to the table, cell by cell.

    Args:
        kind: What the table describes.
        table: The table.
        provided: Concatenated frames of `DescriptionFile` (`tasks.ingest.description_files`), with the origin of each cell.
        latest: The greatest valid time in UTC seconds. A later one in the table, which an earlier version let in, does not matter.

    Returns:
        The updated table, and a mask of the rows of `provided` of which a cell was applied.

    Raises:
        SettingsError: An attribute has the name under which the table stores the time or the file of another one.
    """
    known = TABLES[kind]
    names = known.described_in(table, provided)
    refuse_clashes(names)
    table, provided = (widened(each, names, UNDESCRIBED) for each in (table, provided))
    is_touched = np.isin(table[known.id].to_numpy(np.int64), provided[known.id].to_numpy(np.int64))
    both = pd.concat([table[is_touched], provided.assign(**{Columns.HAS_EVENTS: False})], ignore_index=True)
    is_old = np.arange(len(both)) < int(is_touched.sum())
    ids, places = np.unique(both[known.id].to_numpy(np.int64), return_inverse=True)
    counts = np.zeros(len(both), dtype=bool)
    columns: dict[str, Any] = {known.id: ids}
    for name in names:
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
    base = widened(base, known.described_in(table), UNDESCRIBED)
    earlier = base.set_index(known.id).reindex(ids)
    kept = ids != gone if gone is not None else np.ones(len(ids), dtype=bool)
    columns: dict[str, Any] = {}
    count = 0
    is_described = np.zeros(len(ids), dtype=bool)
    for name in known.described_in(table):
        time, origin = Columns.time_of(name), Columns.origin_of(name)
        out = np.isin(table[origin].to_numpy(np.int64), origins)
        values = earlier[name].fillna("") if name in (Columns.TITLE, Columns.GENRES) else earlier[name]
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
    """Return the columns of the table that a dataset version exposes: the attributes come last, with their types."""
    return _without_state(kind, table, typed)


def compacted(kind: Kind, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the table that a release stores: `public` ones, with attributes whose text tells more than a number."""
    return _without_state(kind, table, compact)


def _without_state(kind: Kind, table: pd.DataFrame, of: Callable[[pd.Series[Any]], pd.Series[Any]]) -> pd.DataFrame:
    known = TABLES[kind]
    names = known.described_in(table)
    return table[[known.id, *names]].assign(**{name: of(table[name]) for name in names if name not in known.columns})


def _with_state(
    kind: Kind, table: pd.DataFrame, *, has_events: npt.NDArray[np.bool_] | bool, time: npt.NDArray[np.int64] | int
) -> pd.DataFrame:
    """Add what later files need to the public columns. `time` is that of each row's cells; empty ones are undescribed."""
    state: dict[str, Any] = {Columns.HAS_EVENTS: has_events}
    for name in TABLES[kind].described_in(table):
        said = is_said(name, table.iloc[:, :0], table)
        state[Columns.time_of(name)] = np.where(said, time, UNDESCRIBED).astype(np.int64)
        state[Columns.origin_of(name)] = np.zeros(len(table), dtype=np.int64)
    return table.assign(**state)


def _ranks(cells: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return the place of each cell in the order of its values. Missing ones come first."""
    if pd.api.types.is_numeric_dtype(cells):
        return np.asarray(cells.fillna(-1).to_numpy(np.int64))
    texts = cells.fillna("").to_numpy(object).astype(str)
    return np.unique(texts, return_inverse=True)[1].astype(np.int64)


def cleaned(provided: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return the id and the descriptions of a kind with their types. Impossible values are empty."""
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
