"""The interface of an ETL engine, and the engine that works in this process, in chunks that fit in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.ingest.events import EventFile
from tasks.ingest.features import write_features
from tasks.ingest.merge import merge_interactions
from tasks.ingest.row_account import RowAccount, TakeIds, accepted_events
from tasks.tables import PLAIN, DatasetProperties, ParquetWriter, interaction_model, read_parquet

__all__ = ["Engine", "PandasEngine"]

IntArray = npt.NDArray[np.int64]


class Engine(Protocol):
    """Builds the tables of event files. `read` is called for each file, and the other methods once, in this order."""

    def read(self, file: EventFile, account: RowAccount, ordinal: int, take_ids: TakeIds) -> None:
        """Read and validate a file chunk by chunk, and add it to the account. Raises SourceError if it is damaged.

        `take_ids` takes the text ids of each chunk, by column (`EventChunk.ids`).
        """

    def write_interactions(self, out: Path) -> pd.DataFrame:
        """Write the accepted events, merged by `deduplicate_latest`, with Columns.INTERACTION and, if they have one, their weight.

        Returns the superseded ones, with Columns.HAPPENED.
        """

    def write_features(self, interactions: Path, out: Path, superseded: pd.DataFrame) -> tuple[IntArray, IntArray]:
        """Write the features (`build_features`) of the interactions. Returns all user ids and all item ids, ascending.

        `superseded` is what `earlier_events` returned for them.
        """


class PandasEngine:
    """Sorts and enriches at most `memory_rows` events at once. The rest is spilled to `folder`."""

    def __init__(self, folder: Path, memory_rows: int, properties: DatasetProperties = PLAIN) -> None:
        self._folder, self._memory_rows, self._properties = folder, memory_rows, properties
        self._parts: list[Path] = []

    def read(self, file: EventFile, account: RowAccount, ordinal: int, take_ids: TakeIds) -> None:
        for events in accepted_events(file.chunks(), account, ordinal, take_ids):
            part = self._folder / f"part-{len(self._parts)}.parquet"
            with ParquetWriter(part, temporary=True) as writer:
                writer.write(events)
            self._parts.append(part)

    def write_interactions(self, out: Path) -> pd.DataFrame:
        lost = self._folder / "superseded.parquet"
        merge_interactions(
            self._parts,
            out,
            memory_rows=self._memory_rows,
            columns=self._properties.with_weight(Columns.INTERACTION),
            superseded=lost,
            properties=self._properties,
        )
        superseded = read_parquet(lost, list(Columns.HAPPENED))
        for path in (*self._parts, lost):
            path.unlink()
        return superseded

    def write_features(self, interactions: Path, out: Path, superseded: pd.DataFrame) -> tuple[IntArray, IntArray]:
        check = interaction_model(self._properties).validate
        return write_features(interactions, out, memory_rows=self._memory_rows, superseded=superseded, check=check)
