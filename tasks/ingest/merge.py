"""Merge many parts of accepted events into one table.

The table is sorted by user, time, item. By default it has one event for each user and item, and one for each second in which an
event of them happened if the dataset keeps repeats.
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
from tasks.tables import PLAIN, DatasetProperties, ParquetWriter, empty_table, partition_by_key, sorted_order

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
    columns: Sequence[str] | None = None,
    written: Mapping[int, int] | None = None,
    properties: DatasetProperties = PLAIN,
) -> MergeReport:
    """Merge the events of Parquet files by the rules of `deduplicate_latest`, and write them to `out`.

    At most `memory_rows` rows are in memory at once (or those of one user, if there are more). The rest is spilled next to
    `out`. The files are written atomically.

    Args:
        parts: Files with Columns.FILE_EVENT. `file` is an ordinal: all rows of one file share it, across any number of parts.
        superseded: Receives the rows that are left out.
        columns: The columns to write, by default all.
        written: UTC seconds at which each file was written, by ordinal. Without them, all files are of the same time.
        properties: Those of the dataset. If its events have weights, the files also have Columns.WEIGHT.
    """
    stored = properties.with_weight(Columns.FILE_EVENT)
    columns = stored if columns is None else columns
    rows = duplicates = 0
    of_file: dict[int, int] = {}
    with ExitStack() as stack:
        writers = [stack.enter_context(ParquetWriter(path)) for path in (out, superseded) if path is not None]
        for table in partition_by_key(parts, stored, Columns.USER, memory_rows, out.parent):
            kept, lost = deduplicate_latest(table.to_pandas(), written, keep_repeats=properties.keeps_repeats)
            for writer, frame in zip(writers, (kept, lost), strict=False):
                writer.write(frame[list(columns)])
            rows, duplicates = rows + len(kept), duplicates + len(lost)
            for ordinal, count in zip(*np.unique(lost[Columns.FILE], return_counts=True), strict=True):
                of_file[int(ordinal)] = of_file.get(int(ordinal), 0) + int(count)
        if not rows + duplicates:
            for writer in writers:
                writer.write(empty_table(columns))
    return MergeReport(rows, duplicates, of_file)


def deduplicate_latest(
    events: pd.DataFrame, written: Mapping[int, int] | None = None, *, keep_repeats: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one event for each user and item, or for each user, item and second if repeats are kept.

    The newest event counts. If events have the same second, the one whose file was written last counts, because a later delivery is a
    correction. In one file, and in files of the same second, the highest rating counts, and then the highest weight. So neither the
    order of rows nor the order in which files are read matters. If everything agrees, the last row of the file with the lowest
    ordinal keeps the event.

    Args:
        events: Events with Columns.FILE_EVENT, and maybe Columns.WEIGHT.
        written: UTC seconds at which each file was written, by ordinal. Without them, all files are of the same time.
        keep_repeats: Whether events of a user and item in different seconds all count.

    Returns:
        (kept, superseded). The kept events are sorted by user, time, item.
    """
    names = Columns.HAPPENED if keep_repeats else (Columns.USER, Columns.ITEM)
    repeated = _repeated(*(events[name].to_numpy(np.int64) for name in names))
    lost = np.zeros(len(events), dtype=bool)
    if repeated.any():
        places = np.flatnonzero(repeated)
        lost[places] = True
        lost[places[_winners(events.iloc[places], written or {}, names)]] = False
    superseded = events[lost].reset_index(drop=True)
    if lost.any():
        events = events[~lost]
    order = sorted_order(*(events[name].to_numpy(np.int64) for name in (Columns.USER, Columns.TIME, Columns.ITEM)))
    return pd.DataFrame({name: events[name].to_numpy()[order] for name in events}, copy=False), superseded


def _repeated(*keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the events whose keys occur in another event too."""
    order = sorted_order(*keys)
    same = np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in keys])
    found = np.zeros(len(order), dtype=bool)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


def _winners(events: pd.DataFrame, written: Mapping[int, int], names: Sequence[str]) -> npt.NDArray[np.intp]:
    file = events[Columns.FILE].to_numpy(np.int64)
    ordinals, places = np.unique(file, return_inverse=True)
    delivered = np.array([written.get(int(ordinal), 0) for ordinal in ordinals], dtype=np.int64)[places]
    ranks = [events[name].to_numpy() for name in (Columns.WEIGHT, Columns.RATING) if name in events]
    keys = [events[name].to_numpy() for name in (Columns.TIME, Columns.ITEM, Columns.USER)]
    order = np.lexsort((events[Columns.ROW].to_numpy(), -file, *ranks, delivered, *keys))
    return order[_ends(*(events[name].to_numpy()[order] for name in names))]


def _ends(*columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows after which any column changes."""
    ends = np.ones(len(columns[0]), dtype=bool)
    ends[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return ends
