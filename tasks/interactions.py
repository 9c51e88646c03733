"""Many parts of accepted events become one table: sorted by user, time, movie, with one event for each user and movie."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.parquet import ParquetWriter
from tasks.spill import by_key, sorted_order

__all__ = ["PART_COLUMNS", "MergeReport", "merge_interactions", "settle"]

PART_COLUMNS = ("user_id", "movie_id", "rating", "timestamp", "row", "file")
EMPTY = pd.DataFrame({name: pd.Series(dtype=np.float64 if name == "rating" else np.int64) for name in PART_COLUMNS})


@dataclass(frozen=True)
class MergeReport:
    """rows + duplicates are the parts' rows."""

    rows: int
    duplicates: int
    duplicates_of_file: dict[int, int] = field(default_factory=dict)  # by its ordinal


def merge_interactions(
    parts: Sequence[Path],
    out: Path,
    *,
    memory_rows: int,
    superseded: Path | None = None,
    columns: Sequence[str] = PART_COLUMNS,
) -> MergeReport:
    """Write the events of Parquet files with PART_COLUMNS to `out`, as `settle` has them, with `columns` of them. `file` is an
    ordinal: rows of one file have one, in any number of parts.

    At most `memory_rows` rows are in memory at once (or those of one user, if he has more); the rest waits beside `out`.
    `superseded` takes the rows that are left out. Both appear whole or not at all.
    """
    rows = duplicates = 0
    of_file: dict[int, int] = {}
    with ExitStack() as stack:
        writers = [stack.enter_context(ParquetWriter(path)) for path in (out, superseded) if path is not None]
        for table in by_key(parts, PART_COLUMNS, "user_id", memory_rows, out.parent):
            settled = kept, lost = settle(table.to_pandas())
            for writer, frame in zip(writers, settled, strict=False):
                writer.write(frame[list(columns)])
            rows, duplicates = rows + len(kept), duplicates + len(lost)
            for ordinal, count in zip(*np.unique(lost["file"], return_counts=True), strict=True):
                of_file[int(ordinal)] = of_file.get(int(ordinal), 0) + int(count)
        if not rows + duplicates:
            for writer in writers:
                writer.write(EMPTY[list(columns)])
    return MergeReport(rows, duplicates, of_file)


def settle(events: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(kept, superseded) of events with PART_COLUMNS: kept are sorted by user, time, movie, one for each user and movie.

    The newest counts. Of events of one second, each file's last row counts, and among files the one with the highest rating,
    so that it does not matter in which order or in which batches files arrive. Where all of it agrees the file with the least
    ordinal keeps the event.
    """
    users, movies = (events[name].to_numpy(np.int64) for name in ("user_id", "movie_id"))
    repeated = _repeated(users, movies)
    lost = np.zeros(len(events), dtype=bool)
    if repeated.any():
        places = np.flatnonzero(repeated)
        lost[places] = True
        lost[places[_winners(events.iloc[places])]] = False
    superseded = events[lost].reset_index(drop=True)
    if lost.any():
        events = events[~lost]
        users, movies = users[~lost], movies[~lost]
    order = sorted_order(users, events["timestamp"].to_numpy(np.int64), movies)
    return pd.DataFrame({name: events[name].to_numpy()[order] for name in events}, copy=False), superseded


def _repeated(users: npt.NDArray[np.int64], movies: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Events whose user and movie another event has too."""
    order = sorted_order(users, movies)
    same = (users[order[1:]] == users[order[:-1]]) & (movies[order[1:]] == movies[order[:-1]])
    found = np.zeros(len(users), dtype=bool)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


def _winners(events: pd.DataFrame) -> npt.NDArray[np.intp]:
    user, movie, time, rating, row, file = (
        events[name].to_numpy() for name in ("user_id", "movie_id", "timestamp", "rating", "row", "file")
    )
    order = np.lexsort((row, file, time, movie, user))
    last_of_file = order[_ends(user[order], movie[order], time[order], file[order])]
    user, movie, time, rating, file = (column[last_of_file] for column in (user, movie, time, rating, file))
    order = np.lexsort((-file, rating, time, movie, user))
    return last_of_file[order[_ends(user[order], movie[order])]]


def _ends(*columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where the next row differs in any column."""
    ends = np.ones(len(columns[0]), dtype=bool)
    ends[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return ends
