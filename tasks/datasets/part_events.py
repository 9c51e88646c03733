"""The events of a version that is made of parts, merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from configs.errors import VersionCorruptError
from models.columns import Columns
from tasks.datasets.layout import Layout
from tasks.datasets.part_files import PartFiles
from tasks.tables import DatasetProperties, column_type, parquet_batches, schema_of

__all__ = [
    "HAPPENED",
    "LANDED",
    "Arrays",
    "event_chunks",
    "has_weights",
    "insertion_points",
    "merged_chunks",
    "merged_events",
    "part_schema",
    "removals_of",
    "superseded_events",
]

LANDED = -1  # `row` of an event from a landing zone; other events keep their position in the release
STORED = (*Columns.INTERACTION, Columns.ORIGIN)
HAPPENED = (*Columns.HAPPENED, Columns.ORIGIN)
CHUNK_ROWS = 1 << 20
Arrays = dict[str, npt.NDArray[Any]]


def part_schema(properties: DatasetProperties) -> pa.Schema:
    """Return the schema of a part's events, which are sorted by user, time, item."""
    return schema_of(properties.with_weight(STORED))


def has_weights(files: PartFiles, layout: Layout) -> bool:
    """Return whether the events of a version have weights. Those of all its parts have them, or none."""
    return bool(layout.parts) and Columns.WEIGHT in files.parquet(layout.parts[0].events).schema_arrow.names


def removals_of(files: PartFiles, layout: Layout) -> list[npt.NDArray[np.int64]]:
    """Return, for each part, the positions of its rows that later parts supersede."""
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in layout.parts]
    for part in layout.parts:
        if part.removals is not None:
            frame = files.frame(part.removals)
            parts, positions = frame[Columns.PART].to_numpy(np.int64), frame[Columns.POSITION].to_numpy(np.int64)
            for number in np.unique(parts):
                found[number].append(positions[parts == number])
    return [np.concatenate([np.empty(0, dtype=np.int64), *positions]) for positions in found]


def event_chunks(
    files: PartFiles, layout: Layout, number: int, removed: npt.NDArray[np.int64], columns: Sequence[str] = Columns.INTERACTION
) -> Iterator[tuple[int, Arrays, npt.NDArray[np.bool_]]]:
    """Read one part in chunks, in order.

    Yields the position of a chunk's first row, its columns, and a mask of the rows that are not superseded. The origin is 0 in a
    release, and in a part that an earlier version stored.
    """
    start = 0
    file = files.parquet(layout.parts[number].events)
    known = [name for name in columns if name != Columns.ORIGIN or name in file.schema_arrow.names]
    for arrays in parquet_batches(file, CHUNK_ROWS, known):
        rows = len(arrays[columns[0]])
        arrays |= {name: np.zeros(rows, dtype=np.int64) for name in columns if name not in known}
        kept = np.ones(rows, dtype=bool)
        kept[removed[(removed >= start) & (removed < start + rows)] - start] = False
        yield start, arrays, kept
        start += rows


def merged_chunks(files: PartFiles, layout: Layout, columns: Sequence[str] = STORED) -> Iterator[Arrays]:
    """Yield all events that are not superseded, sorted by user, time, item, in chunks. `row` has its stored value.

    If events have a weight, it is added to the columns. One chunk of the first part and all later parts are in memory at once.
    """
    columns = (*columns, Columns.WEIGHT) if has_weights(files, layout) else columns
    removed = removals_of(files, layout)
    later = [
        {name: column[kept] for name, column in arrays.items()}
        for number in range(1, len(layout.parts))
        for _, arrays, kept in event_chunks(files, layout, number, removed[number], columns)
    ]
    added = _sorted(later, columns)
    taken = 0
    for _, arrays, kept in event_chunks(files, layout, 0, removed[0], columns):
        chunk = arrays if kept.all() else {name: column[kept] for name, column in arrays.items()}
        if not len(chunk[Columns.USER]):
            continue
        last = {name: column[-1:] for name, column in chunk.items()}
        end = max(taken, int(insertion_points(added, last)[0]))
        yield _inserted(chunk, {name: column[taken:end] for name, column in added.items()})
        taken = end
    if taken < len(added[Columns.USER]):
        yield {name: column[taken:] for name, column in added.items()}


def merged_events(files: PartFiles, layout: Layout) -> pd.DataFrame:
    """Return the version's interactions in the form of a release: sorted by user, time, item.

    `row` is the position in the release. Events from a landing zone are numbered after the release, in the order of this table.
    """
    rows, filled, landed = layout.rows, 0, 0
    names = (*Columns.INTERACTION, Columns.WEIGHT) if has_weights(files, layout) else Columns.INTERACTION
    columns: Arrays = {name: np.empty(rows, dtype=column_type(name)) for name in names}
    for chunk in merged_chunks(files, layout, Columns.INTERACTION):
        place = slice(filled, filled + len(chunk[Columns.ROW]))
        for name, column in chunk.items():
            columns[name][place] = column
        new = columns[Columns.ROW][place] == LANDED
        count = int(new.sum())
        columns[Columns.ROW][place][new] = layout.base_rows + landed + np.arange(count)
        filled, landed = place.stop, landed + count
    if filled != rows:
        raise VersionCorruptError(f"The parts of a dataset version hold {filled} events, but its manifest records {rows}.")
    return pd.DataFrame(columns, copy=False)


def superseded_events(files: PartFiles, layout: Layout, properties: DatasetProperties) -> pd.DataFrame:
    """Return the events, with HAPPENED, that happened before the one of the same user and item that counts.

    They are the superseded rows of parts, and those that no part has. The same event may occur several times. If repeats are kept,
    there are none: only an event of the same second, which is the same event, supersedes another one.
    """
    found = [pd.DataFrame({name: np.empty(0, dtype=np.int64) for name in HAPPENED})]
    if properties.keeps_repeats:
        return found[0]
    removed = removals_of(files, layout)
    for number in range(len(layout.parts)):
        if len(removed[number]):
            for _, arrays, kept in event_chunks(files, layout, number, removed[number], HAPPENED):
                found.append(pd.DataFrame({name: column[~kept] for name, column in arrays.items()}))
    for file in layout.superseded:
        frame = files.frame(file)
        found.append(frame.assign(**{name: np.int64(0) for name in HAPPENED if name not in frame})[list(HAPPENED)])
    return pd.concat(found, ignore_index=True)


def insertion_points(table: Arrays, added: Arrays) -> npt.NDArray[np.int64]:
    """Return the positions in `table` before which the rows of `added` belong. Shape (len(added),).

    Both are sorted by user, time, item, and they have no row in common.
    """
    users, times, items = table[Columns.USER], table[Columns.TIME], table[Columns.ITEM]
    low = np.searchsorted(users, added[Columns.USER], side="left")
    high = np.searchsorted(users, added[Columns.USER], side="right")
    while True:  # one bisection for all rows at once
        open_ = np.flatnonzero(low < high)
        if not len(open_):
            return low.astype(np.int64)
        middle = (low[open_] + high[open_]) // 2
        time, item = added[Columns.TIME][open_], added[Columns.ITEM][open_]
        before = (times[middle] < time) | ((times[middle] == time) & (items[middle] < item))
        low[open_] = np.where(before, middle + 1, low[open_])
        high[open_] = np.where(before, high[open_], middle)


def _inserted(table: Arrays, added: Arrays) -> Arrays:
    if not len(added[Columns.USER]):
        return table
    places = insertion_points(table, added)
    return {name: np.insert(column, places, added[name]) for name, column in table.items()}


def _sorted(tables: list[Arrays], columns: Sequence[str]) -> Arrays:
    joined: Arrays = {
        name: np.concatenate([np.empty(0, dtype=column_type(name)), *(table[name] for table in tables)]) for name in columns
    }
    order = np.lexsort((joined[Columns.ITEM], joined[Columns.TIME], joined[Columns.USER]))
    return {name: column[order] for name, column in joined.items()}
