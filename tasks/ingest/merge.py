"""Merge many parts of accepted events into one table.

The table is sorted by user, time, item, with one event for each user and item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.tables import ParquetWriter, empty_table, partition_by_key, sorted_order

__all__ = ["MergeReport", "deduplicate_latest", "merge_interactions"]


@dataclass(frozen=True)
class MergeReport:
    """Row counts of a merge. rows + duplicates is the number of rows in the parts."""

    rows: int
    duplicates: int
    duplicates_of_file: dict[int, int] = field(default_factory=dict)  # by file ordinal


def merge_interactions(
    parts: Sequence[Path],
    out: Path,
    *,
    memory_rows: int,
    superseded: Path | None = None,
    columns: Sequence[str] = Columns.FILE_EVENT,
    written: Mapping[int, int] | None = None,
) -> MergeReport:
    """Merge the events of Parquet files by the rules of `deduplicate_latest`, and write them to `out`.

    At most `memory_rows` rows are in memory at once (or those of one user, if there are more). The rest is spilled next to
    `out`. The files are written atomically.

    Args:
        parts: Files with Columns.FILE_EVENT. `file` is an ordinal: all rows of one file share it, across any number of parts.
        superseded: Receives the rows that are left out.
        columns: The columns to write.
        written: UTC seconds at which each file was written, by ordinal. Without them, all files are of the same time.
    """
    rows = duplicates = 0
    of_file: dict[int, int] = {}
    with ExitStack() as stack:
        writers = [stack.enter_context(ParquetWriter(path)) for path in (out, superseded) if path is not None]
        for table in partition_by_key(parts, Columns.FILE_EVENT, Columns.USER, memory_rows, out.parent):
            kept, lost = deduplicate_latest(table.to_pandas(), written)
            for writer, frame in zip(writers, (kept, lost), strict=False):
                writer.write(frame[list(columns)])
            rows, duplicates = rows + len(kept), duplicates + len(lost)
            for ordinal, count in zip(*np.unique(lost[Columns.FILE], return_counts=True), strict=True):
                of_file[int(ordinal)] = of_file.get(int(ordinal), 0) + int(count)
        if not rows + duplicates:
            for writer in writers:
                writer.write(empty_table(columns))
    return MergeReport(rows, duplicates, of_file)


def deduplicate_latest(events: pd.DataFrame, written: Mapping[int, int] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one event for each user and item.

    The newest event counts. Of events of the same second, the one whose file was written last counts, because a later delivery is a
    correction. In one file, and in files of the same second, the highest rating counts. So neither the order of rows nor the order
    in which files are read matters. If everything agrees, the last row of the file with the lowest ordinal keeps the event.

    Args:
        events: Events with Columns.FILE_EVENT.
        written: UTC seconds at which each file was written, by ordinal. Without them, all files are of the same time.

    Returns:
        (kept, superseded). The kept events are sorted by user, time, item.
    """
    users, items = (events[name].to_numpy(np.int64) for name in (Columns.USER, Columns.ITEM))
    repeated = _repeated(users, items)
    lost = np.zeros(len(events), dtype=bool)
    if repeated.any():
        places = np.flatnonzero(repeated)
        lost[places] = True
        lost[places[_winners(events.iloc[places], written or {})]] = False
    superseded = events[lost].reset_index(drop=True)
    if lost.any():
        events = events[~lost]
        users, items = users[~lost], items[~lost]
    order = sorted_order(users, events[Columns.TIME].to_numpy(np.int64), items)
    return pd.DataFrame({name: events[name].to_numpy()[order] for name in events}, copy=False), superseded


def _repeated(users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the events whose user and item occur in another event too."""
    order = sorted_order(users, items)
    same = (users[order[1:]] == users[order[:-1]]) & (items[order[1:]] == items[order[:-1]])
    found = np.zeros(len(users), dtype=bool)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


def _winners(events: pd.DataFrame, written: Mapping[int, int]) -> npt.NDArray[np.intp]:
    user, item, rating, time, row, file = (events[name].to_numpy() for name in Columns.FILE_EVENT)
    ordinals, places = np.unique(file, return_inverse=True)
    delivered = np.array([written.get(int(ordinal), 0) for ordinal in ordinals], dtype=np.int64)[places]
    order = np.lexsort((row, -file, rating, delivered, time, item, user))
    return order[_ends(user[order], item[order])]


def _ends(*columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows after which any column changes."""
    ends = np.ones(len(columns[0]), dtype=bool)
    ends[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return ends
