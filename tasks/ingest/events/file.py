"""The interface of an event file, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tasks.ingest.events.reading import RowRules
from tasks.ingest.events.text import EventChunk

__all__ = ["Block", "EventFile"]

Block = tuple[int, int]


@dataclass(frozen=True)
class EventFile(ABC):
    """An event file with known format and columns. `chunks` reads its rows."""

    path: Path
    extra_columns: tuple[str, ...]  # columns that are not read
    rules: RowRules
    chunk_rows: int

    @abstractmethod
    def chunks(self) -> Iterator[EventChunk]:
        """Yield about `chunk_rows` rows at a time, in file order. Raises SourceError if the file turns out to be damaged."""

    @abstractmethod
    def raw(self) -> pd.DataFrame:
        """Return all rows, unchecked, in the form of MovieLens: see `standard_cells`."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """Return where chunks start and end. A gzipped file is one block, because it can only be read from its start."""

    @abstractmethod
    def read(self, block: Block) -> EventChunk:
        """Read the chunk of one of `blocks`, in any process that sees the file. Row numbers start at 0 in each chunk."""
