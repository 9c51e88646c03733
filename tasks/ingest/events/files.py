"""Read event files in chunks: CSV, Parquet, and every MovieLens format, plain or gzipped.

The content of a file decides its format. Its name decides only between formats without a header.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import SourceError
from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.events.columns import EVENT_NAMES, faults_of_columns, lacking_columns, listed
from tasks.ingest.events.text import EventChunk, TextLayout, cells_of_text, chunk_of_frame, chunk_of_text, fields, lines
from tasks.tables import DAMAGE, FileFormat, file_format, header_of, opened, read_bytes, suffix_of

__all__ = ["Block", "EventChunk", "EventFile", "open_event_file"]

Block = tuple[int, int]
ROW_BYTES = 24  # size of a typical row of ratings.csv
LONGEST_ROW = 1 << 24
HEAD_ROWS = 100
U_DATA = TextLayout("\t", Columns.EVENT, quoted=False)
RATINGS_DAT = TextLayout("::", Columns.EVENT, quoted=False)
WITHOUT_HEADER = {".data": U_DATA, ".dat": RATINGS_DAT}
NUMBERS = re.compile(r"[0-9]+ *(::|\t) *[0-9]+ *\1 *[0-9.]+ *\1 *[0-9.]+")


@dataclass(frozen=True)
class EventFile(ABC):
    """An event file with known format and columns. `chunks` reads its rows."""

    path: Path
    extra_columns: tuple[str, ...]  # columns that are not read
    settings: ValidationSettings
    now: int
    chunk_rows: int

    @abstractmethod
    def chunks(self) -> Iterator[EventChunk]:
        """Yield about `chunk_rows` rows at a time, in file order. Raises SourceError if the file turns out to be damaged."""

    @abstractmethod
    def raw(self) -> pd.DataFrame:
        """Return Columns.EVENT of all rows, unchecked: numbers where a column holds nothing else, and otherwise text."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """Return where chunks start and end. A gzipped file is one block, because it can only be read from its start."""

    @abstractmethod
    def read(self, block: Block) -> EventChunk:
        """Read the chunk of one of `blocks`, in any process that sees the file. Row numbers start at 0 in each chunk."""


def open_event_file(path: Path, settings: ValidationSettings, now: int, chunk_rows: int = 1_000_000) -> EventFile:
    """Open an event file.

    The columns are user_id, item_id (or userId, movieId, item_id), rating and timestamp, in any order. Other columns are
    allowed. A file with a header and no rows has no chunks.

    Args:
        now: Current time in UTC seconds. No event can be later.

    Raises:
        SourceError: The file is not an event file: its format is unknown, it is empty or damaged, or it lacks these columns.
    """
    found = file_format(path)
    if found.is_parquet:
        extra, names = _parquet_columns(path)
        return _ParquetFile(path, extra, settings, now, chunk_rows, names)
    layout, data_from = _layout(path, found, settings, now)
    extra = tuple(field for field in layout.fields if field not in Columns.EVENT)
    return _TextFile(path, extra, settings, now, chunk_rows, layout, data_from, found.is_gzipped)


@dataclass(frozen=True)
class _TextFile(EventFile):
    layout: TextLayout
    data_from: int  # bytes before the first data row
    is_gzipped: bool

    def chunks(self) -> Iterator[EventChunk]:
        row = 0
        for text in self._texts():
            chunk = chunk_of_text(text, self.layout, row, self.settings, self.now)
            row += chunk.rows
            if chunk.rows:
                yield chunk

    def raw(self) -> pd.DataFrame:
        with opened(self.path, is_gzipped=self.is_gzipped) as file:
            read_bytes(self.path, file, self.data_from)
            return cells_of_text(read_bytes(self.path, file), self.layout)

    def blocks(self) -> list[Block]:
        if self.is_gzipped:
            return [(self.data_from, -1)]
        ends = np.cumsum([self.data_from, *(len(text) for text in self._texts())])
        return [(int(start), int(end)) for start, end in pairwise(ends)]

    def read(self, block: Block) -> EventChunk:
        start, end = block
        with opened(self.path, is_gzipped=self.is_gzipped) as file:
            read_bytes(self.path, file, start) if self.is_gzipped else file.seek(start)
            text = read_bytes(self.path, file, -1 if end < 0 else end - start)
        return chunk_of_text(text, self.layout, 0, self.settings, self.now)

    def _texts(self) -> Iterator[bytes]:
        with opened(self.path, is_gzipped=self.is_gzipped) as file:
            yield from _whole_lines(self.path, file, self.data_from, self.chunk_rows * ROW_BYTES)


@dataclass(frozen=True)
class _ParquetFile(EventFile):
    names: dict[str, str]  # the file's name for each of Columns.EVENT

    def chunks(self) -> Iterator[EventChunk]:
        row = 0
        for frame in filter(len, self._frames()):
            yield chunk_of_frame(frame, row, self.settings, self.now)
            row += len(frame)

    def raw(self) -> pd.DataFrame:
        frames = [pd.DataFrame({name: [] for name in self.names}), *self._frames()]
        return pd.concat(frames[1:] or frames, ignore_index=True)

    def blocks(self) -> list[Block]:
        """Return ranges of row groups. Empty groups, as some writers leave them, are passed over."""
        try:
            metadata = pq.read_metadata(self.path)
            return [(group, group + 1) for group in range(metadata.num_row_groups) if metadata.row_group(group).num_rows]
        except DAMAGE as error:
            raise SourceError(f"{self.path} is damaged: {error}. Write or copy it again.") from error

    def read(self, block: Block) -> EventChunk:
        frames = list(self._frames(range(*block)))
        return chunk_of_frame(pd.concat(frames, ignore_index=True), 0, self.settings, self.now)

    def _frames(self, groups: range | None = None) -> Iterator[pd.DataFrame]:
        rows = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(self.chunk_rows, columns=list(self.names.values()), row_groups=groups):
                    yield pd.DataFrame({name: _plain(name, batch.column(given)) for name, given in self.names.items()})
                    rows += len(batch)
        except DAMAGE as error:
            raise SourceError(f"{self.path} is damaged after row {rows}: {error}. Write or copy it again.") from error


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the columns that are not read, and the names of those that are."""
    try:
        schema = pq.read_schema(path)
    except DAMAGE as error:
        raise SourceError(f"{path} is not a Parquet file, or it is cut short: {error}. Write or copy it again.") from error
    names = _named(path, schema.names, lambda: "")
    for given in names.values():
        kind = schema.field(given).type
        if pa.types.is_nested(kind) or pa.types.is_boolean(kind):
            raise SourceError(f"The column {given} of {path} holds {kind} instead of numbers. Write it as numbers.")
    return tuple(given for given in schema.names if given not in names.values()), names


def _plain(name: str, cells: pa.Array) -> pd.Series[Any]:
    """Return numbers as numpy numbers, times as UTC seconds, and everything else as text."""
    kind = cells.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        cells = pc.cast(cells, pa.timestamp("s"), safe=False).cast(pa.int64())
    elif pa.types.is_decimal(kind):
        cells = pc.cast(cells, pa.float64(), safe=False) if name == Columns.RATING else _whole_decimals(cells)
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


def _whole_lines(path: Path, file: BinaryIO, skip: int, size: int) -> Iterator[bytes]:
    """Yield the content after the first `skip` bytes, about `size` bytes at a time, cut at the end of a line."""
    read_bytes(path, file, skip)
    rest = b""
    while content := read_bytes(path, file, max(size - len(rest), 1 << 12)):
        content = rest + content
        end = content.rfind(b"\n") + 1 or content.rfind(b"\r", 0, -1) + 1  # the last \r may be half of an \r\n
        rest = content[end:]
        if len(rest) > LONGEST_ROW:
            raise SourceError(
                f"{path} has a row of more than {LONGEST_ROW:,} bytes, so it is not an event file. Provide another file."
            )
        if end:
            yield content[:end]
    if rest:
        yield rest


def _layout(path: Path, found: FileFormat, settings: ValidationSettings, now: int) -> tuple[TextLayout, int]:
    """Return how the rows are written, and the number of bytes before the first one."""
    without = _without_header(path, found.head)
    try:
        header = header_of(path, found, EVENT_NAMES)
    except SourceError:
        if without is None or not found.head.strip():
            raise
        return without, found.mark  # its first row is longer than its head
    names = tuple(Columns.ALIASES.get(name, name) for name in header.names)
    if without is not None and not set(Columns.EVENT) <= set(names):
        _check_width(path, without, found.head, whole=found.is_whole)
        return without, found.mark
    layout = TextLayout(header.separator, names, quoted=not header.is_atomic)
    rows = found.head[header.data_from - found.mark :]

    def also() -> str:
        if not header.is_utf8:
            return "Its header is not written in UTF-8: save it as UTF-8."
        return _faults_of(rows, layout, settings, now)

    _named(path, list(header.names), also)
    _check_width(path, layout, rows, whole=found.is_whole)
    return layout, header.data_from


def _without_header(path: Path, head: bytes) -> TextLayout | None:
    """Return the layout of MovieLens' formats without a header, by the first rows or, if the first is damaged, by the name."""
    rows = [NUMBERS.match(line) for line in lines(head[: 1 << 12])]
    if not rows or rows[0] is None:
        return WITHOUT_HEADER.get(suffix_of(path))
    [(separator, _)] = Counter(row[1] for row in rows if row).most_common(1)
    return RATINGS_DAT if separator == "::" else U_DATA


def _named(path: Path, given: list[str], also: Callable[[], str]) -> dict[str, str]:
    """Return the file's name of each of Columns.EVENT.

    Args:
        path: The file.
        given: Its columns.
        also: Returns what else is wrong with the file, in sentences.

    Raises:
        SourceError: A column is lacking, or is there twice.
    """
    by_name: dict[str, list[str]] = {}
    for field in given:
        by_name.setdefault(Columns.ALIASES.get(field, field), []).append(field)
    faults = [
        f"{path} has two columns for {name}; its columns are {listed(given)}. Remove one."
        for name in Columns.EVENT
        if len(by_name.get(name, ())) > 1
    ]
    if any(name not in by_name for name in Columns.EVENT):
        faults.append(lacking_columns(path, given))
    if faults:
        raise SourceError(" ".join(filter(None, [*faults, also()])))
    return {name: by_name[name][0] for name in Columns.EVENT}


def _faults_of(rows: bytes, layout: TextLayout, settings: ValidationSettings, now: int) -> str:
    """Return the faults of the first rows, in the columns that are there."""
    cells = [fields(row, layout) for row in lines(rows)[:HEAD_ROWS]]
    return faults_of_columns([row for row in cells if len(row) == len(layout.fields)], layout.fields, settings, now)


def _check_width(path: Path, layout: TextLayout, head: bytes, *, whole: bool) -> None:
    """Raise SourceError if none of the first rows has as many cells as there are columns."""
    rows = lines(head)
    rows = rows if whole else rows[:-1]  # the last row may be cut
    counts = [len(fields(row, layout)) for row in rows[:HEAD_ROWS]]
    if counts and len(layout.fields) not in counts:
        raise SourceError(
            f"The rows of {path} have {counts[0]} fields, but there are {len(layout.fields)} columns: "
            f"{listed(list(layout.fields))}. Remove the surplus fields, or fill in those that are missing."
        )
