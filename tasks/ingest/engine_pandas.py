"""The interface of an ETL engine, and the engine that works in this process, in chunks that fit in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.ingest.event_files import EventFile
from tasks.ingest.features import write_features
from tasks.ingest.merge import merge_interactions
from tasks.ingest.row_account import RowAccount, accepted_events
from tasks.ingest.validation import InteractionModel
from tasks.tables import ParquetWriter

__all__ = ["Engine", "PandasEngine"]

IntArray = npt.NDArray[np.int64]


class Engine(Protocol):
    """Builds the tables of one event file. Each method is called once, in this order."""

    def read(self, file: EventFile, account: RowAccount) -> None:
        """Read and validate the file chunk by chunk, and add it to the account. Raises SourceError if it is damaged."""

    def write_interactions(self, out: Path) -> pd.DataFrame:
        """Write the accepted events, merged by `deduplicate_latest`, with Columns.INTERACTION. Returns the superseded events."""

    def write_features(self, interactions: Path, out: Path, superseded: pd.DataFrame) -> tuple[IntArray, IntArray]:
        """Write the features (`build_features`) of the interactions. Returns all user ids and all item ids, ascending.

        `superseded` is what `earlier_events` returned for them.
        """


class PandasEngine:
    """Sorts and enriches at most `memory_rows` events at once. The rest is spilled to `folder`."""

    def __init__(self, folder: Path, memory_rows: int) -> None:
        self._folder, self._memory_rows = folder, memory_rows
        self._parts: list[Path] = []

    def read(self, file: EventFile, account: RowAccount) -> None:
        for events in accepted_events(file, account):
            part = self._folder / f"part-{len(self._parts)}.parquet"
            with ParquetWriter(part, temporary=True) as writer:
                writer.write(events)
            self._parts.append(part)

    def write_interactions(self, out: Path) -> pd.DataFrame:
        superseded = self._folder / "superseded.parquet"
        merge_interactions(self._parts, out, memory_rows=self._memory_rows, superseded=superseded, columns=Columns.INTERACTION)
        for part in self._parts:
            part.unlink()
        return pd.read_parquet(superseded)

    def write_features(self, interactions: Path, out: Path, superseded: pd.DataFrame) -> tuple[IntArray, IntArray]:
        return write_features(
            interactions, out, memory_rows=self._memory_rows, superseded=superseded, check=InteractionModel.validate
        )
