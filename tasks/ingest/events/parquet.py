"""Read event files in Parquet: numbers, text and timestamps of any unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import SourceError
from infra.progress import report
from models.columns import Columns
from tasks.ingest.events.file import Block, EventFile
from tasks.ingest.events.first_rows import HEAD_ROWS, Head
from tasks.ingest.events.judging import texts_of
from tasks.ingest.events.reading import RowRules
from tasks.ingest.events.text import EventChunk, chunk_of_frame, kinds_of, standard_cells
from tasks.ingest.events.times import seconds_of_timestamps
from tasks.tables import DAMAGE, decoded

__all__ = ["ParquetEvents", "head_of_parquet", "holds_timestamps", "parquet_schema"]

FRACTIONAL = (Columns.RATING, Columns.WEIGHT)


@dataclass(frozen=True)
class ParquetEvents(EventFile):
    """An event file in Parquet."""

    names: dict[str, str]  # the file's name for each column that is read

    def chunks(self) -> Iterator[EventChunk]:
        row = 0
        for frame in filter(len, self._frames()):
            yield chunk_of_frame(frame, row, self.rules)
            row += len(frame)

    def raw(self) -> pd.DataFrame:
        frames = [pd.DataFrame({name: [] for name in self.names}), *self._frames()]
        return standard_cells(pd.concat(frames[1:] or frames, ignore_index=True), self.rules)

    def blocks(self) -> list[Block]:
        """Return ranges of row groups. Empty groups, as some writers leave them, are skipped."""
        try:
            metadata = pq.read_metadata(self.path)
            return [(group, group + 1) for group in range(metadata.num_row_groups) if metadata.row_group(group).num_rows]
        except DAMAGE as error:
            raise SourceError(f"{self.path} is damaged: {error}. Write or copy it again.") from error

    def read(self, block: Block) -> EventChunk:
        frames = list(self._frames(range(*block)))
        return chunk_of_frame(pd.concat(frames, ignore_index=True), 0, self.rules)

    def _frames(self, groups: range | None = None) -> Iterator[pd.DataFrame]:
        rows = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(self.chunk_rows, columns=list(self.names.values()), row_groups=groups):
                    yield pd.DataFrame(
                        {name: _plain(name, batch.column(given), self.rules) for name, given in self.names.items()}
                    )
                    rows += len(batch)
                    if groups is None and (total := file.metadata.num_rows) > self.chunk_rows:
                        report("read events", rows, total, f"{self.path.name}: {rows:,} of {total:,} rows")
        except DAMAGE as error:
            raise SourceError(f"{self.path} is damaged after row {rows}: {error}. Write or copy it again.") from error


def parquet_schema(path: Path) -> pa.Schema:
    """Return the columns of a Parquet file. Raises SourceError if it is damaged."""
    try:
        return pq.read_schema(path)
    except DAMAGE as error:
        raise SourceError(f"{path} is not a Parquet file, or it is cut short: {error}. Write or copy it again.") from error


def holds_timestamps(kind: pa.DataType) -> bool:
    """Return whether a column holds points in time, whose unit and zone need no setting."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def head_of_parquet(path: Path, names: dict[str, str], timezone: str | None) -> Head:
    """Return the first rows as text. Timestamps are UTC seconds."""
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(HEAD_ROWS, columns=list(names.values())), None) if names else None
            if batch is None:
                return {name: [] for name in names}
            return {name: _as_text(batch.column(given), timezone).to_pylist() for name, given in names.items()}
    except DAMAGE as error:
        raise SourceError(f"{path} is damaged after row 0: {error}. Write or copy it again.") from error


def _as_text(cells: pa.Array, timezone: str | None) -> pa.Array:
    cells = decoded(cells)
    if holds_timestamps(cells.type):
        return seconds_of_timestamps(cells, timezone).cast(pa.string())
    return texts_of(cells.to_pandas()) if pa.types.is_floating(cells.type) else pc.cast(cells, pa.string(), safe=False)


def _plain(name: str, cells: pa.Array, rules: RowRules) -> pd.Series[Any]:
    """Return numbers as numpy numbers, times as UTC seconds, and everything else as text."""
    cells = decoded(cells)
    kind = cells.type
    if kinds_of(rules)[name] == "text":
        return pd.Series(pd.arrays.ArrowExtensionArray(_as_text(cells, rules.reading.timezone)))
    if holds_timestamps(kind):
        cells = seconds_of_timestamps(cells, rules.reading.timezone)
    elif pa.types.is_decimal(kind):
        cells = pc.cast(cells, pa.float64(), safe=False) if name in FRACTIONAL else _whole_decimals(cells)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        cells = pc.cast(cells, pa.large_string(), safe=False)
    if pa.types.is_integer(cells.type) and cells.null_count:  # as numpy numbers they would be floats, which round large ids
        unsigned = pa.types.is_unsigned_integer(cells.type)
        wide = cells.cast(pa.uint64() if unsigned else pa.int64())
        filled = pc.fill_null(wide, 0).to_numpy(zero_copy_only=False)
        return pd.Series(pd.arrays.IntegerArray(filled, np.asarray(cells.is_null())))
    found: pd.Series[Any] = cells.to_pandas()
    return found


def _whole_decimals(cells: pa.Array) -> pa.Array:
    """Return decimal numbers as whole numbers or, if one has a fraction or is too large, as text."""
    try:
        return pc.cast(cells, pa.int64())
    except pa.ArrowInvalid:
        return pc.cast(cells, pa.string())
