"""What an engine of the etl does, and the one that works in this process, in pieces that fit memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.event_account import EventAccount
from tasks.event_files import EventFile
from tasks.features import write_features
from tasks.interactions import PART_COLUMNS, merge_interactions
from tasks.parquet import ParquetWriter
from tasks.validate import AcceptedModel, InteractionModel

__all__ = ["INTERACTION_FILE_COLUMNS", "Engine", "PandasEngine"]

IntArray = npt.NDArray[np.int64]
INTERACTION_FILE_COLUMNS = [name for name in PART_COLUMNS if name != "file"]  # a release has one


class Engine(Protocol):
    """Makes the tables of one event file; the methods are called once each, in this order."""

    def read(self, file: EventFile, account: EventAccount) -> None:
        """Read and validate the file, chunk by chunk, into the account. Raises SourceError where it is damaged."""

    def write_interactions(self, out: Path) -> pd.DataFrame:
        """Write the accepted events as `settle` has them, without `file`; returns those that others supersede."""

    def write_features(self, interactions: Path, out: Path) -> tuple[IntArray, IntArray]:
        """Write `build_features` of the interactions; returns all user ids and all movie ids, ascending."""


class PandasEngine:
    """At most `memory_rows` events are sorted and enriched at once; what waits is kept in `folder`."""

    def __init__(self, folder: Path, memory_rows: int) -> None:
        self._folder, self._memory_rows = folder, memory_rows
        self._parts: list[Path] = []

    def read(self, file: EventFile, account: EventAccount) -> None:
        for chunk in file.chunks():
            account.add(chunk.rows, chunk.quarantined)
            events = AcceptedModel.validate(chunk.accepted)
            part = self._folder / f"part-{len(self._parts)}.parquet"
            with ParquetWriter(part, temporary=True) as writer:
                writer.write(events.assign(file=np.int64(0)))
            self._parts.append(part)

    def write_interactions(self, out: Path) -> pd.DataFrame:
        superseded = self._folder / "superseded.parquet"
        merge_interactions(
            self._parts, out, memory_rows=self._memory_rows, superseded=superseded, columns=INTERACTION_FILE_COLUMNS
        )
        for part in self._parts:
            part.unlink()
        return pd.read_parquet(superseded)

    def write_features(self, interactions: Path, out: Path) -> tuple[IntArray, IntArray]:
        return write_features(interactions, out, memory_rows=self._memory_rows, check=InteractionModel.validate)
