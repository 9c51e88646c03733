"""Merge the events of new files into a dataset.

New events are compared with those of the dataset: which of them win, and which rows they supersede. Those that win become one
sorted part, counted by file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from models.columns import Columns
from tasks.datasets import (
    HAPPENED,
    LANDED,
    Arrays,
    EventDigest,
    LandedState,
    LandingLog,
    Layout,
    PartFiles,
    event_chunks,
    origin_of,
    part_schema,
    removals_of,
)
from tasks.ingest import merge_interactions
from tasks.landing.event_index import EventIndex
from tasks.landing.scratch import ScratchFile, writing
from tasks.tables import PLAIN, DatasetProperties

__all__ = ["AddedEvents", "Comparison", "EventMerge", "FileCounts", "compare"]

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

    part: ScratchFile
    digest: EventDigest
    users: Ids  # ids in the part
    items: Ids
    comparison: Comparison
    superseded: pd.DataFrame  # HAPPENED of new events that do not count, because a later one of the same user and item does
    by_file: dict[int, FileCounts] = field(default_factory=dict)  # by ordinal


@dataclass(frozen=True, eq=False)
class EventMerge:
    """A merge of new events into a dataset.

    Attributes:
        before: The dataset.
        files: The objects of its parts.
        log: The log of the landing zone.
        number: The number of the entry to come.
        written: UTC seconds at which each new file was written, by ordinal.
        watermark: UTC seconds. Older events count as late.
        memory_rows: The number of rows that fit in memory.
        scratch: Folder for the merged events.
    """

    before: LandedState
    files: PartFiles
    log: LandingLog
    number: int
    written: dict[int, int]
    watermark: int
    memory_rows: int
    scratch: Path

    def add(self, parts: list[Path]) -> AddedEvents:
        """Merge Parquet files with Columns.FILE_EVENT (and weights), and keep the events that are newer than the dataset's own."""
        merged, lost = self.scratch / "merged.parquet", self.scratch / "lost.parquet"
        with writing(self.scratch):
            merge_interactions(
                parts, merged, memory_rows=self.memory_rows, written=self.written, superseded=lost, properties=self._properties
            )
        rows = pq.read_metadata(merged).num_rows
        if self.before.is_empty or not rows:
            comparison = Comparison.with_nothing(rows, self.before.first)
        else:
            new = pq.read_table(merged, columns=self._merged).to_pandas()
            comparison = compare(self.files, self.before.layout, self._with_origin(new), self._delivered, self._properties)
        superseded = self._superseded(merged, lost, comparison)
        with writing(self.scratch):
            return self._won(merged, comparison, superseded)

    @property
    def _properties(self) -> DatasetProperties:
        return self.before.properties

    @property
    def _merged(self) -> list[str]:
        return [*self._properties.event_columns, Columns.FILE]

    def _superseded(self, merged: Path, lost: Path, comparison: Comparison) -> pd.DataFrame:
        """Return the new events that do not count, and that the dataset does not know: later events may need them as their past."""
        if self._properties.keeps_repeats:  # only an event of the same second, which is the same event, can beat another one
            return pd.DataFrame({name: np.empty(0, dtype=np.int64) for name in HAPPENED})
        names = [*Columns.HAPPENED, Columns.FILE]
        beaten = pq.read_table(lost, columns=names).to_pandas()
        if not len(beaten) and comparison.wins.all():
            return pd.DataFrame({name: np.empty(0, dtype=np.int64) for name in HAPPENED})
        new = pq.read_table(merged, columns=names).to_pandas()
        happened = pd.concat([beaten, new[~comparison.wins]], ignore_index=True).drop_duplicates(list(Columns.HAPPENED))
        happened = _unknown(happened, new[comparison.wins])
        layout = self.before.layout
        removed = removals_of(self.files, layout)
        for number in range(len(layout.parts)):
            for _, chunk, _ in event_chunks(self.files, layout, number, removed[number], Columns.HAPPENED):
                happened = _unknown(happened, pd.DataFrame(chunk))
        for file in layout.superseded:
            happened = _unknown(happened, self.files.frame(file))
        return self._with_origin(happened)[list(HAPPENED)].sort_values(list(Columns.HAPPENED), ignore_index=True)

    def _with_origin(self, new: pd.DataFrame) -> pd.DataFrame:
        return new.assign(**{Columns.ORIGIN: origin_of(self.number, 0) + new[Columns.FILE]})

    def _delivered(self, origins: Ids) -> Ids:
        current = {origin_of(self.number, ordinal): seconds for ordinal, seconds in self.written.items()}
        return self.log.written(origins, current)

    def _won(self, merged: Path, comparison: Comparison, superseded: pd.DataFrame) -> AddedEvents:
        """Write the merged events that win as a part."""
        counts: dict[int, FileCounts] = {}
        users: list[Ids] = []
        items: list[Ids] = []
        digest = EventDigest()
        schema = part_schema(self._properties)
        with ScratchFile(self.scratch / "added.parquet", schema, extent_of=Columns.TIME) as part:
            for start, chunk in _chunks(merged, self._merged):
                place = slice(start, start + len(chunk[Columns.FILE]))
                wins = comparison.wins[place]
                won = {name: column[wins] for name, column in chunk.items()}
                corrects = comparison.corrects[place][wins]
                origins = origin_of(self.number, 0) + won[Columns.FILE]
                rows = np.full(len(corrects), LANDED, dtype=np.int64)
                part.write({**won, Columns.ROW: rows, Columns.ORIGIN: origins})
                digest = digest + EventDigest.of(won)
                users.append(np.unique(won[Columns.USER]))
                items.append(np.unique(won[Columns.ITEM]))
                for ordinal in np.unique(won[Columns.FILE]):
                    own, found = won[Columns.FILE] == ordinal, counts.setdefault(int(ordinal), FileCounts())
                    found.accepted += int(own.sum())
                    found.corrections += int((own & corrects).sum())
                    found.late += int((own & (won[Columns.TIME] < self.watermark)).sum())
        self._count_new(merged, comparison, counts)
        return AddedEvents(part, digest, _distinct(users), _distinct(items), comparison, superseded, counts)

    def _count_new(self, merged: Path, comparison: Comparison, counts: dict[int, FileCounts]) -> None:
        """Count, for each file, the users and items that had no event before. An id counts for the first file that has it."""
        table = pq.read_table(merged, columns=[Columns.USER, Columns.ITEM, Columns.FILE])
        ordinals = table.column(Columns.FILE).to_numpy()[comparison.wins]
        for name, known, attribute in (
            (Columns.USER, self.before.has_events("users"), "new_users"),
            (Columns.ITEM, self.before.has_events("items"), "new_items"),
        ):
            ids = table.column(name).to_numpy()[comparison.wins]
            new = ~np.isin(ids, known)
            first = pd.Series(ordinals[new]).groupby(ids[new]).min()
            for ordinal, found in first.value_counts().items():
                setattr(counts[int(str(ordinal))], attribute, int(found))


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result for N new events."""

    wins: npt.NDArray[np.bool_]  # (N,) the event wins
    corrects: npt.NDArray[np.bool_]  # (N,) the event wins and replaces an event of the dataset
    removals: pd.DataFrame  # PART, POSITION, USER and ITEM of the superseded rows
    removed: EventDigest
    first: int  # UTC seconds of the oldest event of the dataset that stays; LandedState.NEVER if none does

    @classmethod
    def with_nothing(cls, rows: int, first: int) -> Comparison:
        """Return the result if there is nothing to compare."""
        return cls(np.ones(rows, dtype=bool), np.zeros(rows, dtype=bool), pd.DataFrame(), EventDigest(), first)


def compare(
    files: PartFiles,
    layout: Layout,
    new: pd.DataFrame,
    delivered: Callable[[Ids], Ids],
    properties: DatasetProperties = PLAIN,
) -> Comparison:
    """Compare new events with those of a dataset.

    The newest event of a user and item wins. If repeats are kept, only events of the same second are compared. At the same second,
    the one that was delivered later wins, then the one with the highest rating, and then the one with the highest weight. If events
    are equal, the one that is already in the dataset wins. `tasks.ingest.merge.deduplicate_latest` has the same rules for files.

    Args:
        files: The objects of the dataset's parts.
        layout: The dataset.
        new: Events with Columns.EVENT, their weight if they have one, and their origin, one row for each key of an event.
        delivered: Returns UTC seconds at which the files of some origins were written.
        properties: Those of the dataset.
    """
    index = EventIndex(new, properties.key)
    columns = (*properties.event_columns, Columns.ORIGIN)
    times = new[Columns.TIME].to_numpy(np.int64)
    values = {name: new[name].to_numpy(np.float64) for name in columns if name in (Columns.RATING, Columns.WEIGHT)}
    origins = new[Columns.ORIGIN].to_numpy(np.int64)
    wins, corrects = np.ones(len(new), dtype=bool), np.zeros(len(new), dtype=bool)
    removals: list[pd.DataFrame] = []
    removed, first = EventDigest(), LandedState.NEVER
    superseded = removals_of(files, layout)
    for number in range(len(layout.parts)):
        for start, chunk, kept in event_chunks(files, layout, number, superseded[number], columns):
            places, rows = index.matches(chunk, kept)
            time = chunk[Columns.TIME][places]
            newer = times[rows] > time
            differs = np.logical_or.reduce([values[name][rows] != chunk[name][places] for name in values])
            tied = np.flatnonzero((times[rows] == time) & differs)
            if len(tied):
                own, old = delivered(origins[rows[tied]]), delivered(chunk[Columns.ORIGIN][places[tied]])
                newer[tied] = (own > old) | ((own == old) & _greater(values, chunk, rows[tied], places[tied]))
            wins[rows[~newer]] = False
            corrects[rows[newer]] = True
            gone = places[newer]
            kept[gone] = False
            if kept.any():
                first = min(first, int(chunk[Columns.TIME][kept].min()))
            if len(gone):
                lost = {name: column[gone] for name, column in chunk.items()}
                removed = removed + EventDigest.of(lost)
                where = {Columns.PART: np.full(len(gone), number, dtype=np.int64), Columns.POSITION: start + gone}
                removals.append(pd.DataFrame({**where, Columns.USER: lost[Columns.USER], Columns.ITEM: lost[Columns.ITEM]}))
    joined = pd.concat(removals, ignore_index=True) if removals else pd.DataFrame()
    return Comparison(wins, corrects, joined, removed, first)


def _unknown(events: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the events whose user, item and time `known` does not have."""
    if events.empty:
        return events
    names = list(Columns.HAPPENED)
    same = known.loc[known[Columns.USER].isin(events[Columns.USER]), names].drop_duplicates()
    return events[(events.merge(same, on=names, how="left", indicator=True)["_merge"] == "left_only").to_numpy()]


def _greater(values: Arrays, chunk: Arrays, rows: npt.NDArray[np.intp], places: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return whether rows have a higher rating than other rows of a chunk, or the same one and a higher weight."""
    found = np.zeros(len(rows), dtype=bool)
    for name in reversed(list(values)):
        own, old = values[name][rows], chunk[name][places]
        found = (own > old) | ((own == old) & found)
    return found


def _chunks(path: Path, columns: list[str]) -> Iterator[tuple[int, Arrays]]:
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=columns):
        yield start, {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns}
        start += batch.num_rows


def _distinct(ids: list[Ids]) -> Ids:
    found: Ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ids]))
    return found
