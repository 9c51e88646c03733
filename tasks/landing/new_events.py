"""Merge the events of new files: those that win become one sorted part, counted by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from tasks.datasets import LANDED, Arrays, EventDigest, Layout, PartFiles, PartWriter
from tasks.ingest import merge_interactions
from tasks.landing.compare import Comparison, compare
from tasks.landing.scratch import writing

__all__ = ["AddedEvents", "FileCounts", "add_events"]

COLUMNS = ["user_id", "movie_id", "rating", "timestamp", "file"]
CHUNK_ROWS = 1 << 20
Ids = npt.NDArray[np.int64]


@dataclass
class FileCounts:
    """Counts of one file's events that win."""

    accepted: int = 0
    corrections: int = 0
    late: int = 0
    new_users: int = 0
    new_items: int = 0


@dataclass(frozen=True, eq=False)
class AddedEvents:
    """A new part for a dataset, and its effect on the existing parts."""

    path: Path
    rows: int
    first: int  # UTC seconds; 0 if there are no rows
    last: int
    digest: EventDigest
    users: Ids  # ids in the part
    movies: Ids
    comparison: Comparison | None  # None if there was nothing to compare with
    by_file: dict[int, FileCounts] = field(default_factory=dict)  # by ordinal


def add_events(
    files: PartFiles,
    layout: Layout | None,
    parts: list[Path],
    rated: tuple[Ids, Ids],
    watermark: int,
    memory_rows: int,
    scratch: Path,
) -> AddedEvents:
    """Merge the files' parts, and keep the events that are newer than the dataset's own.

    Args:
        parts: Parquet files with tasks.ingest.merge.PART_COLUMNS.
        rated: The ids of the users, and of the items, that already have an event.
        watermark: UTC seconds. Older events count as late.
    """
    merged = scratch / "merged.parquet"
    with writing(scratch):
        merge_interactions(parts, merged, memory_rows=memory_rows)
    comparison = None
    if layout is not None and pq.read_metadata(merged).num_rows:
        comparison = compare(files, layout, pq.read_table(merged, columns=COLUMNS[:4]).to_pandas())
    with writing(scratch):
        return _won(merged, comparison, rated, watermark, scratch)


def _won(merged: Path, comparison: Comparison | None, rated: tuple[Ids, Ids], watermark: int, scratch: Path) -> AddedEvents:
    """Write the merged events that win as a part."""
    counts: dict[int, FileCounts] = {}
    users: list[Ids] = []
    movies: list[Ids] = []
    digest = EventDigest()
    writer = PartWriter(scratch / "added.parquet")
    for start, chunk in _chunks(merged):
        place = slice(start, start + len(chunk["file"]))
        wins = comparison.wins[place] if comparison else np.ones(len(chunk["file"]), dtype=bool)
        won = {name: column[wins] for name, column in chunk.items()}
        corrects = comparison.corrects[place][wins] if comparison else np.zeros(len(won["file"]), dtype=bool)
        writer.write({**won, "row": np.full(len(won["file"]), LANDED, dtype=np.int64)})
        digest = digest + EventDigest.of(won)
        users.append(np.unique(won["user_id"]))
        movies.append(np.unique(won["movie_id"]))
        for ordinal in np.unique(won["file"]):
            own, found = won["file"] == ordinal, counts.setdefault(int(ordinal), FileCounts())
            found.accepted += int(own.sum())
            found.corrections += int((own & corrects).sum())
            found.late += int((own & (won["timestamp"] < watermark)).sum())
    writer.close()
    _count_new(writer.path, merged, comparison, rated, counts)
    return AddedEvents(
        writer.path, writer.rows, writer.first, writer.last, digest, _distinct(users), _distinct(movies), comparison, counts
    )


def _count_new(
    path: Path, merged: Path, comparison: Comparison | None, rated: tuple[Ids, Ids], counts: dict[int, FileCounts]
) -> None:
    """Count, for each file, the users and items that had no event before."""
    table = pq.read_table(merged, columns=["user_id", "movie_id", "file"])
    wins = comparison.wins if comparison else np.ones(table.num_rows, dtype=bool)
    ordinals = table.column("file").to_numpy()[wins]
    for name, known, attribute in (("user_id", rated[0], "new_users"), ("movie_id", rated[1], "new_items")):
        ids = table.column(name).to_numpy()[wins]
        new = ~np.isin(ids, known)
        for ordinal, found in pd.Series(ids[new]).groupby(ordinals[new]).nunique().items():
            setattr(counts[int(str(ordinal))], attribute, int(found))


def _chunks(path: Path) -> Iterator[tuple[int, Arrays]]:
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=COLUMNS):
        yield start, {name: batch.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS}
        start += batch.num_rows


def _distinct(ids: list[Ids]) -> Ids:
    found: Ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ids]))
    return found
