"""A dataset version made of parts: a sorted first part, and small later parts that add rows and remove earlier ones.

A part is never rewritten. A later part refers to the rows it supersedes by part and position, as in the deletion vectors of
Apache Iceberg (spec v3). So the merged view costs one mask and one insertion, whatever the number of rows.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import NotFoundError, VersionCorruptError
from infra.digests import sha256_of, sha256_of_json
from infra.storage import LEFTOVER_S, Store
from tasks.datasets.content_digest import EventDigest

__all__ = [
    "EVENT_COLUMNS",
    "LANDED",
    "Layout",
    "Part",
    "PartFiles",
    "PartWriter",
    "StoredFile",
    "event_chunks",
    "insertion_points",
    "merged_chunks",
    "merged_events",
    "removals_of",
]

EVENT_COLUMNS = ["user_id", "movie_id", "rating", "timestamp", "row"]
LANDED = -1  # `row` of an event from a landing zone; other events keep their position in the release
CHUNK_ROWS = 1 << 20
Arrays = dict[str, npt.NDArray[Any]]
EVENT_SCHEMA = pa.schema(
    [("user_id", pa.int64()), ("movie_id", pa.int64()), ("rating", pa.float64()), ("timestamp", pa.int64()), ("row", pa.int64())]
)


@dataclass(frozen=True)
class StoredFile:
    """A Parquet object that versions can share."""

    key: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Part:
    """Events, and the rows of earlier parts that they supersede (part, position, user_id, movie_id)."""

    events: StoredFile
    removals: StoredFile | None
    first: int  # UTC seconds
    last: int


@dataclass(frozen=True)
class Layout:
    """The objects that a version is made of."""

    parts: tuple[Part, ...]  # the first one is the largest
    items: StoredFile
    users: StoredFile
    base_rows: int  # rows of the release that the first files were added to; 0 if there is none
    events: EventDigest

    @property
    def rows(self) -> int:
        return sum(part.events.rows - (part.removals.rows if part.removals else 0) for part in self.parts)

    @property
    def files(self) -> list[StoredFile]:
        removals = [part.removals for part in self.parts if part.removals is not None]
        return [*(part.events for part in self.parts), *removals, self.items, self.users]

    @property
    def digest(self) -> str:
        """12 hex digits of the names, sizes and sha256 of all objects."""
        return sha256_of_json(self.to_dict())[:12]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Layout:
        """Build a layout from a dict. Raises VersionCorruptError if `found` is not a layout."""
        try:
            parts = [
                Part(
                    StoredFile(**part["events"]),
                    StoredFile(**part["removals"]) if part["removals"] is not None else None,
                    part["first"],
                    part["last"],
                )
                for part in found["parts"]
            ]
            return cls(
                tuple(parts),
                StoredFile(**found["items"]),
                StoredFile(**found["users"]),
                found["base_rows"],
                EventDigest(**found["events"]),
            )
        except (TypeError, KeyError) as error:
            raise VersionCorruptError(f"The layout of a dataset version is damaged ({error}); delete the version.") from error


class PartFiles:
    """Opens the objects of parts as files. Each object is verified once.

    For a remote store, `cache` keeps the objects by sha256. The modification time of a cached file is the time of its last use.
    """

    def __init__(self, store: Store, cache: Path | None = None) -> None:
        self._store, self._cache = store, cache
        self._checked: set[str] = set()

    def parquet(self, file: StoredFile) -> pq.ParquetFile:
        """Open an object.

        Raises:
            NotFoundError: The object is not in the store.
            VersionCorruptError: The object differs from the one that was stored.
        """
        return pq.ParquetFile(self._source(file))

    def frame(self, file: StoredFile) -> pd.DataFrame:
        """Read an object as a table. Raises the same errors as `parquet`."""
        frame: pd.DataFrame = self.parquet(file).read().to_pandas()
        return frame

    def remove_unused(self, layout: Layout) -> None:
        """Delete cached files that are not in this layout and were not used for a day, so the cache does not grow forever."""
        if self._cache is None:
            return
        kept = {f"{file.sha256}.parquet" for file in layout.files}
        for path in self._cache.glob("*"):
            with suppress(OSError):  # a concurrent run has removed it, or it cannot be removed; a surplus file does no harm
                if path.name not in kept and time.time() - path.stat().st_mtime > LEFTOVER_S:
                    path.unlink()

    def _source(self, file: StoredFile) -> Any:
        path = self._store.local_file(file.key)
        if path is None and self._cache is not None:
            return self._cached(self._cache / f"{file.sha256}.parquet", file)
        if path is None:
            content = self._store.get(file.key)
            if sha256_of(content) != file.sha256:
                raise self._differing(file)
            return pa.BufferReader(content)
        if not path.exists():
            raise NotFoundError(f"{self._store.uri(file.key)} is part of a dataset version, but it is not in the store.")
        with path.open("rb") as opened:
            if not self._is_whole(opened, file):
                raise self._differing(file)
        return path

    def _cached(self, path: Path, file: StoredFile) -> pa.NativeFile:
        """Return an open file: a concurrent run may unlink it at any time, but an open file can be read to its end."""
        for is_fetched in (False, True, True):
            if is_fetched:
                self._checked.discard(file.key)
                self._store.fetch(file.key, path)
            with suppress(OSError):  # the file belongs to another user or does not exist
                os.utime(path)
            with suppress(FileNotFoundError):
                opened = pa.OSFile(str(path))
                if self._is_whole(opened, file):
                    opened.seek(0)
                    return opened
        raise self._differing(file)

    def _is_whole(self, opened: Any, file: StoredFile) -> bool:
        if file.key not in self._checked:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return False
            self._checked.add(file.key)
        return True

    def _differing(self, file: StoredFile) -> VersionCorruptError:
        return VersionCorruptError(
            f"{self._store.uri(file.key)} differs from its manifest: it was changed after it was stored. Restore the object, "
            "or delete the versions that contain it."
        )


class PartWriter:
    """A Parquet file of events that is written in pieces. Each piece is sorted and follows the one before."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.first, self.last = path, 0, 0, 0
        self._writer = pq.ParquetWriter(path, EVENT_SCHEMA, compression="zstd")

    def write(self, columns: Arrays) -> None:
        times = columns["timestamp"]
        if not len(times):
            return
        first, last = int(times.min()), int(times.max())
        self.first = min(first, self.first) if self.rows else first
        self.last = max(last, self.last) if self.rows else last
        self.rows += len(times)
        self._writer.write_table(pa.table({name: columns[name] for name in EVENT_COLUMNS}, schema=EVENT_SCHEMA))

    def close(self) -> None:
        self._writer.close()


def removals_of(files: PartFiles, layout: Layout) -> list[npt.NDArray[np.int64]]:
    """Return, for each part, the positions of its rows that later parts supersede."""
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in layout.parts]
    for part in layout.parts:
        if part.removals is not None:
            frame = files.frame(part.removals)
            parts, positions = frame["part"].to_numpy(np.int64), frame["position"].to_numpy(np.int64)
            for number in np.unique(parts):
                found[number].append(positions[parts == number])
    return [np.concatenate([np.empty(0, dtype=np.int64), *positions]) for positions in found]


def event_chunks(
    files: PartFiles, layout: Layout, number: int, removed: npt.NDArray[np.int64], columns: list[str] = EVENT_COLUMNS
) -> Iterator[tuple[int, Arrays, npt.NDArray[np.bool_]]]:
    """Read one part in chunks, in order.

    Yields the position of a chunk's first row, its columns, and a mask of the rows that are not superseded.
    """
    start = 0
    for batch in files.parquet(layout.parts[number].events).iter_batches(CHUNK_ROWS, columns=columns):
        arrays = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns}
        kept = np.ones(batch.num_rows, dtype=bool)
        kept[removed[(removed >= start) & (removed < start + batch.num_rows)] - start] = False
        yield start, arrays, kept
        start += batch.num_rows


def merged_chunks(files: PartFiles, layout: Layout) -> Iterator[Arrays]:
    """Yield all events that are not superseded, sorted by user, time, movie, in chunks. `row` has its stored value.

    One chunk of the first part and all later parts are in memory at once.
    """
    removed = removals_of(files, layout)
    later = [
        {name: column[kept] for name, column in arrays.items()}
        for number in range(1, len(layout.parts))
        for _, arrays, kept in event_chunks(files, layout, number, removed[number])
    ]
    added = _sorted(later)
    taken = 0
    for _, arrays, kept in event_chunks(files, layout, 0, removed[0]):
        chunk = arrays if kept.all() else {name: column[kept] for name, column in arrays.items()}
        if not len(chunk["user_id"]):
            continue
        last = {name: column[-1:] for name, column in chunk.items()}
        end = max(taken, int(insertion_points(added, last)[0]))
        yield _inserted(chunk, {name: column[taken:end] for name, column in added.items()})
        taken = end
    if taken < len(added["user_id"]):
        yield {name: column[taken:] for name, column in added.items()}


def merged_events(files: PartFiles, layout: Layout) -> pd.DataFrame:
    """Return the version's interactions in the form of a release: sorted by user, time, movie.

    `row` is the position in the release. Events from a landing zone are numbered after the release, in the order of this table.
    """
    rows, filled, landed = layout.rows, 0, 0
    columns: Arrays = {name: np.empty(rows, dtype=np.float64 if name == "rating" else np.int64) for name in EVENT_COLUMNS}
    for chunk in merged_chunks(files, layout):
        place = slice(filled, filled + len(chunk["row"]))
        for name, column in chunk.items():
            columns[name][place] = column
        new = columns["row"][place] == LANDED
        count = int(new.sum())
        columns["row"][place][new] = layout.base_rows + landed + np.arange(count)
        filled, landed = place.stop, landed + count
    if filled != rows:
        raise VersionCorruptError(f"The parts of a dataset version hold {filled} events, but its manifest records {rows}.")
    return pd.DataFrame(columns, copy=False)


def insertion_points(table: Arrays, added: Arrays) -> npt.NDArray[np.int64]:
    """Return the positions in `table` before which the rows of `added` belong. Shape (len(added),).

    Both are sorted by user, time, movie, and they have no row in common.
    """
    users, times, movies = table["user_id"], table["timestamp"], table["movie_id"]
    low = np.searchsorted(users, added["user_id"], side="left")
    high = np.searchsorted(users, added["user_id"], side="right")
    while True:  # one bisection for all rows at once
        open_ = np.flatnonzero(low < high)
        if not len(open_):
            return low.astype(np.int64)
        middle = (low[open_] + high[open_]) // 2
        time, movie = added["timestamp"][open_], added["movie_id"][open_]
        before = (times[middle] < time) | ((times[middle] == time) & (movies[middle] < movie))
        low[open_] = np.where(before, middle + 1, low[open_])
        high[open_] = np.where(before, high[open_], middle)


def _inserted(table: Arrays, added: Arrays) -> Arrays:
    if not len(added["user_id"]):
        return table
    places = insertion_points(table, added)
    return {name: np.insert(column, places, added[name]) for name, column in table.items()}


def _sorted(tables: list[Arrays]) -> Arrays:
    joined: Arrays = {
        name: np.concatenate(
            [np.empty(0, dtype=np.float64 if name == "rating" else np.int64), *(table[name] for table in tables)]
        )
        for name in EVENT_COLUMNS
    }
    order = np.lexsort((joined["movie_id"], joined["timestamp"], joined["user_id"]))
    return {name: column[order] for name, column in joined.items()}
