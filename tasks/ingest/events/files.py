"""Read event files in chunks: delimited text, and every MovieLens format, plain or gzipped.

The content of a file decides its format. Its name decides only between formats without a header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from configs.errors import SourceError
from configs.settings import ValidationSettings
from infra.progress import report
from models.columns import Columns
from tasks.ingest.events.columns import find_columns, layout_fields, listed
from tasks.ingest.events.file import Block, EventFile
from tasks.ingest.events.first_rows import HEAD_ROWS, Head, faults_of_rows, other_ids, times_of_head
from tasks.ingest.events.ids import BLANKS
from tasks.ingest.events.parquet import ParquetEvents, head_of_parquet, holds_timestamps, parquet_schema
from tasks.ingest.events.reading import EventReading, RowRules
from tasks.ingest.events.text import EventChunk, TextLayout, cells_of_text, chunk_of_text, fields, lines, standard_cells
from tasks.tables import (
    NOT_UTF8,
    FileFormat,
    file_format,
    header_of,
    holds_bytes,
    no_text,
    opened,
    plain_type,
    read_bytes,
    suffix_of,
)

__all__ = ["EventFile", "head_of_file", "open_event_file"]

ROW_BYTES = 24  # size of a typical row of ratings.csv
LONGEST_ROW = 1 << 24
U_DATA = TextLayout("\t", Columns.EVENT, quoted=False)
RATINGS_DAT = TextLayout("::", Columns.EVENT, quoted=False)
WITHOUT_HEADER = {".data": U_DATA, ".dat": RATINGS_DAT}
COLUMNS = frozenset((*Columns.EVENT, Columns.WEIGHT))
NUMBERS = re.compile(r"[0-9]+ *(::|\t) *[0-9]+ *\1 *[0-9.]+ *\1 *[0-9.]+")


@dataclass(frozen=True)
class _Opened:
    """What is known of a file before its rows are read.

    Attributes:
        columns: All columns of the file; those that are read have their names in Columns.
        head: The first rows.
        layout: How the rows of a text are written. None: it is Parquet.
        data_from: The bytes of a text before its first row.
        is_gzipped: The text is compressed.
        names: The names of the columns in a Parquet file, by their names in Columns.
        has_timestamps: The times need no format.
    """

    columns: tuple[str, ...]
    head: Head
    layout: TextLayout | None = None
    data_from: int = 0
    is_gzipped: bool = False
    names: dict[str, str] | None = None
    has_timestamps: bool = False


def open_event_file(
    path: Path,
    settings: ValidationSettings,
    now: int,
    chunk_rows: int = 1_000_000,
    reading: EventReading = EventReading(),  # noqa: B008 - frozen
) -> EventFile:
    """Open an event file.

    The columns are those that the settings name, or user_id, item_id (or userId, movieId, movie_id), rating and timestamp, in any
    order. Other columns are allowed. A file with a header and no rows has no chunks.

    Args:
        path: The file.
        settings: The limits of the validation.
        now: Current time in UTC seconds. No event can be later.
        chunk_rows: Rows of a chunk.
        reading: How the events are written.

    Raises:
        SourceError: The file is not an event file: its format is unknown, it is empty or damaged, or it lacks these columns. Or
            its times have two readings. The message names all faults, each with the setting that mends it.
    """
    found, faults = _looked_at(path, reading)
    reading = replace(reading, timestamp_format="s") if found.has_timestamps else reading
    times, fault = times_of_head(found.head, reading, settings, now, of=str(path))
    rules = RowRules(settings, now, reading, times)
    others = other_ids(found.head, reading, of=str(path))
    if faults or fault or others:
        named = (*([Columns.TIME] if fault else []), *([Columns.USER, Columns.ITEM] if others else []))
        of_rows = {name: cells for name, cells in found.head.items() if name not in named}
        rest = faults_of_rows(of_rows, rules)
        raise SourceError(
            " ".join([*faults, *others, *([fault] if fault else []), *(["Also: " + " ".join(rest)] if rest else [])])
        )
    extra = tuple(name.removeprefix("other ") for name in found.columns if name not in reading.read_columns)
    if found.layout is None:
        assert found.names is not None
        return ParquetEvents(path, extra, rules, chunk_rows, found.names)
    return _TextFile(path, extra, rules, chunk_rows, found.layout, found.data_from, found.is_gzipped)


def head_of_file(path: Path, reading: EventReading) -> Head:
    """Return the first rows of an event file, or nothing if it lacks the columns. Raises SourceError if it cannot be opened."""
    return _looked_at(path, reading)[0].head


def _looked_at(path: Path, reading: EventReading) -> tuple[_Opened, list[str]]:
    """Look at the columns and the first rows. Return what was found, and the faults of the columns."""
    found = file_format(path)
    if not found.is_parquet:
        return _of_text(path, found, reading)
    schema = parquet_schema(path)
    columns = find_columns(path, schema.names, reading)
    fields_of = layout_fields(schema.names, columns.names)
    nested = []
    for given in columns.names.values() if len(set(schema.names)) == len(schema.names) else ():
        kind = plain_type(schema.field(given).type)
        if pa.types.is_nested(kind) or pa.types.is_boolean(kind):
            nested.append(f"The column {given} of {path} holds {kind} instead of numbers. Write it as numbers, text or times.")
    faults = [*columns.faults, *nested]
    if nested or (columns.faults and len(set(schema.names)) < len(schema.names)):
        return _Opened(fields_of, {}, names=columns.names), faults
    time = columns.names.get(Columns.TIME)
    has_timestamps = time is not None and holds_timestamps(plain_type(schema.field(time).type))
    head = dict(head_of_parquet(path, columns.names, reading.timezone))
    for name, given in columns.names.items():
        cells = [cell for cell in head[name] if cell is not None] if holds_bytes(schema.field(given).type) else []
        if cells and 2 * sum(NOT_UTF8 in cell for cell in cells) > len(cells):
            faults.append(no_text(given, path, schema.field(given).type))
            del head[name]
    return _Opened(fields_of, head, names=columns.names, has_timestamps=has_timestamps), faults


@dataclass(frozen=True)
class _TextFile(EventFile):
    layout: TextLayout
    data_from: int  # bytes before the first data row
    is_gzipped: bool

    def chunks(self) -> Iterator[EventChunk]:
        row = 0
        for text in self._texts():
            chunk = chunk_of_text(text, self.layout, row, self.rules)
            row += chunk.rows
            if chunk.rows:
                yield chunk

    def raw(self) -> pd.DataFrame:
        with opened(self.path, is_gzipped=self.is_gzipped) as file:
            read_bytes(self.path, file, self.data_from)
            cells = cells_of_text(read_bytes(self.path, file), self.layout, self.rules)
        return standard_cells(cells, self.rules)

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
        return chunk_of_text(text, self.layout, 0, self.rules)

    def _texts(self) -> Iterator[bytes]:
        with opened(self.path, is_gzipped=self.is_gzipped) as file:
            at_once, size = self.chunk_rows * ROW_BYTES, self.path.stat().st_size
            for text in _whole_lines(self.path, file, self.data_from, at_once):
                yield text
                if size > at_once and not self.is_gzipped:  # else it is read at once, or its end is unknown
                    done = min(file.tell(), size)
                    report("read events", done, size, f"{self.path.name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")


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


def _of_text(path: Path, found: FileFormat, reading: EventReading) -> tuple[_Opened, list[str]]:
    """Return the columns and first rows of a text, and the faults of its columns."""
    without = _without_header(path, found.head) if set(reading.read_columns) <= set(Columns.EVENT) else None
    if without is not None:
        read = {name: name for name in reading.read_columns}
        without = replace(without, fields=layout_fields(without.fields, read))
    try:
        header = header_of(path, found, reading.known_names)
    except SourceError:
        if without is None or not found.head.strip():
            raise
        return _opened_text(found, without, found.mark), []  # its first row is longer than its head
    columns = find_columns(path, header.names, reading)
    if without is not None and columns.faults and not columns.names:
        _check_width(path, without, found.head, whole=found.is_whole)
        return _opened_text(found, without, found.mark), []
    layout = TextLayout(header.separator, layout_fields(header.names, columns.names), quoted=not header.is_atomic)
    faults = list(columns.faults)
    if not header.is_utf8:
        faults.append(f"The header of {path} is not written in UTF-8: save it as UTF-8.")
    if not columns.faults:
        _check_width(path, layout, found.head[header.data_from - found.mark :], whole=found.is_whole)
    return _opened_text(found, layout, header.data_from), faults


def _opened_text(found: FileFormat, layout: TextLayout, data_from: int) -> _Opened:
    rows = lines(found.head[data_from - found.mark :])
    rows = rows if found.is_whole else rows[:-1]  # the last row may be cut
    cells = [fields(row, layout) for row in rows[:HEAD_ROWS]]
    fitting = [row for row in cells if len(row) == len(layout.fields)]
    read = [(place, name) for place, name in enumerate(layout.fields) if name in COLUMNS]
    head: dict[str, Sequence[str | None]] = {name: [row[place].strip(BLANKS) or None for row in fitting] for place, name in read}
    return _Opened(layout.fields, head, layout, data_from, found.is_gzipped)


def _without_header(path: Path, head: bytes) -> TextLayout | None:
    """Return the layout of MovieLens' formats without a header, by the first rows or, if the first is damaged, by the name."""
    rows = [NUMBERS.match(line) for line in lines(head[: 1 << 12])]
    if not rows or rows[0] is None:
        return WITHOUT_HEADER.get(suffix_of(path))
    [(separator, _)] = Counter(row[1] for row in rows if row).most_common(1)
    return RATINGS_DAT if separator == "::" else U_DATA


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
