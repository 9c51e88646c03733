"""Read event files in chunks: CSV, Parquet, and every MovieLens format, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import SourceError
from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.event_text import EventChunk, TextLayout, chunk_of_frame, chunk_of_text, fields, lines

__all__ = ["DAMAGE", "Block", "EventChunk", "EventFile", "open_event_file"]

Block = tuple[int, int]
FORMATS = "*.csv, *.csv.gz, *.parquet, *.inter, u.data, ratings.dat"
ROW_BYTES = 24  # size of a typical row of ratings.csv
LONGEST_ROW = 1 << 24
HEAD_BYTES = 1 << 16
HEAD_ROWS = 100
DAMAGE = (pa.ArrowException, OSError, ValueError)  # raised by pyarrow for Parquet; column names may not be valid UTF-8


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
    name = path.name.removesuffix(".gz")
    if path.suffix == ".parquet":
        extra, names = _parquet_columns(path)
        return _ParquetFile(path, extra, settings, now, chunk_rows, names)
    if not name.endswith((".csv", ".inter", ".data", ".dat")):
        raise SourceError(f"{path} is not in a known format. An event file is one of {FORMATS}. Rename or convert it.")
    head = _head(path)
    layout, data_from = _layout(path, name, head)
    extra = tuple(field for field in layout.fields if field not in Columns.EVENT)
    return _TextFile(path, extra, settings, now, chunk_rows, layout, data_from)


@dataclass(frozen=True)
class _TextFile(EventFile):
    layout: TextLayout
    data_from: int  # bytes before the first data row

    def chunks(self) -> Iterator[EventChunk]:
        row = 0
        for text in self._texts():
            chunk = chunk_of_text(text, self.layout, row, self.settings, self.now)
            row += chunk.rows
            if chunk.rows:
                yield chunk

    def blocks(self) -> list[Block]:
        if self.path.suffix == ".gz":
            return [(self.data_from, -1)]
        ends = np.cumsum([self.data_from, *(len(text) for text in self._texts())])
        return [(int(start), int(end)) for start, end in pairwise(ends)]

    def read(self, block: Block) -> EventChunk:
        start, end = block
        with _opened(self.path) as file:
            _read(self.path, file, start) if self.path.suffix == ".gz" else file.seek(start)
            text = _read(self.path, file, -1 if end < 0 else end - start)
        return chunk_of_text(text, self.layout, 0, self.settings, self.now)

    def _texts(self) -> Iterator[bytes]:
        with _opened(self.path) as file:
            yield from _whole_lines(self.path, file, self.data_from, self.chunk_rows * ROW_BYTES)


@dataclass(frozen=True)
class _ParquetFile(EventFile):
    names: dict[str, str]  # the file's name for each of Columns.EVENT

    def chunks(self) -> Iterator[EventChunk]:
        row = 0
        for frame in self._frames():
            yield chunk_of_frame(frame, row, self.settings, self.now)
            row += len(frame)

    def blocks(self) -> list[Block]:
        """Return ranges of row groups."""
        groups = pq.read_metadata(self.path).num_row_groups
        return [(group, group + 1) for group in range(groups)]

    def read(self, block: Block) -> EventChunk:
        frames = list(self._frames(range(*block)))
        return chunk_of_frame(pd.concat(frames, ignore_index=True), 0, self.settings, self.now)

    def _frames(self, groups: range | None = None) -> Iterator[pd.DataFrame]:
        rows = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(self.chunk_rows, columns=list(self.names.values()), row_groups=groups):
                    yield pd.DataFrame({name: _plain(batch.column(given)) for name, given in self.names.items()})
                    rows += len(batch)
        except DAMAGE as error:
            raise SourceError(f"{self.path} is damaged after row {rows}: {error}. Write or copy it again.") from error


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the columns that are not read, and the names of those that are."""
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise _missing_file(path) from error
    except DAMAGE as error:
        raise SourceError(f"{path} is not a Parquet file, or it is cut short: {error}. Write or copy it again.") from error
    by_name: dict[str, str] = {}
    for given in schema.names:
        _add(path, by_name, Columns.ALIASES.get(given, given), given, schema.names)
    _check_columns(path, by_name, schema.names)
    names = {name: by_name[name] for name in Columns.EVENT}
    for given in names.values():
        kind = schema.field(given).type
        if pa.types.is_nested(kind) or pa.types.is_boolean(kind):
            raise SourceError(f"The column {given} of {path} holds {kind} instead of numbers. Write it as numbers.")
    return tuple(given for given in schema.names if given not in names.values()), names


def _plain(cells: pa.Array) -> pd.Series[Any]:
    """Return numbers as numpy numbers, times as UTC seconds, and everything else as text."""
    kind = cells.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        cells = pc.cast(cells, pa.timestamp("s"), safe=False).cast(pa.int64())
    elif pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        cells = pc.cast(cells, pa.float64(), safe=False)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        cells = pc.cast(cells, pa.large_string(), safe=False)
    found: pd.Series[Any] = cells.to_pandas(integer_object_nulls=True)
    return found


def _opened(path: Path) -> BinaryIO:
    try:
        return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise _missing_file(path) from error


def _missing_file(path: Path) -> SourceError:
    return SourceError(f"{path} is missing or cannot be read. Correct the path, or give this user access to the file.")


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except EOFError as error:
        raise SourceError(f"{path} is cut short: its compressed data ends too early. Copy it again.") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path} is damaged, or not compressed by gzip: {error}. Copy it again.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error


def _head(path: Path) -> bytes:
    with _opened(path) as file:
        return _read(path, file, HEAD_BYTES)


def _whole_lines(path: Path, file: BinaryIO, skip: int, size: int) -> Iterator[bytes]:
    """Yield the content after the first `skip` bytes, about `size` bytes at a time, cut at the end of a line."""
    _read(path, file, skip)
    rest = b""
    while content := _read(path, file, max(size - len(rest), 1 << 12)):
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


def _layout(path: Path, name: str, head: bytes) -> tuple[TextLayout, int]:
    """Return how the rows are written, and the number of bytes before the first one."""
    if not head.strip():
        raise SourceError(f"{path} is empty. Provide a file with rows.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{path} is written in UTF-16. Save it as UTF-8.")
    start = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    if name.endswith(".data"):
        layout = TextLayout("\t", Columns.EVENT, quoted=False)
    elif name.endswith(".dat"):
        layout = TextLayout("::", Columns.EVENT, quoted=False)
    else:
        begin = start + len(head[start:]) - len(head[start:].lstrip(b"\r\n "))
        ends = [place for place in (head.find(b"\n", begin), head.find(b"\r", begin)) if place >= 0]
        if not ends and len(head) == HEAD_BYTES:
            raise SourceError(f"{path} has no line end in its first {HEAD_BYTES:,} bytes, so it is not an event file.")
        end = min(ends, default=len(head))
        header = head[begin:end].decode("utf-8", "replace")
        layout = _atomic_header(path, header) if name.endswith(".inter") else _csv_header(path, header)
        start = end + (2 if head.startswith(b"\r\n", end) else 1)
    _check_width(path, layout, head[start:], whole=len(head) < HEAD_BYTES)
    return layout, start


def _atomic_header(path: Path, header: str) -> TextLayout:
    given = [field.strip().split(":")[0] for field in header.split("\t")]
    return TextLayout("\t", _named(path, given), quoted=False)


def _csv_header(path: Path, header: str) -> TextLayout:
    """Detect the separator from the header: commas, semicolons or tabs."""
    found = {}
    for separator in (",", ";", "\t"):
        try:
            found[separator] = [field.strip() for field in next(csv.reader([header], delimiter=separator))]
        except csv.Error:
            continue
    for separator, given in found.items():
        if set(Columns.EVENT) <= {Columns.ALIASES.get(field, field) for field in given}:
            return TextLayout(separator, _named(path, given), quoted=True)
    return TextLayout(",", _named(path, found.get(",", [header])), quoted=True)


def _named(path: Path, given: list[str]) -> tuple[str, ...]:
    by_name: dict[str, str] = {}
    for field in given:
        _add(path, by_name, Columns.ALIASES.get(field, field), field, given)
    _check_columns(path, by_name, given)
    return tuple(Columns.ALIASES.get(field, field) for field in given)


def _add(path: Path, by_name: dict[str, str], name: str, given: str, all_given: list[str]) -> None:
    if name in by_name and name in Columns.EVENT:
        raise SourceError(f"{path} has two columns for {name}; its columns are {_listed(all_given)}. Remove one.")
    by_name[name] = given


def _check_columns(path: Path, by_name: dict[str, str], given: list[str]) -> None:
    in_format = {Columns.USER: "userId", Columns.ITEM: "movieId"} if path.name.removesuffix(".gz").endswith(".csv") else {}
    lacking = [in_format.get(name, name) for name in Columns.EVENT if name not in by_name]
    if lacking:
        raise SourceError(
            f"{path} lacks the column {', '.join(lacking)}; its columns are {_listed(given)}. Rename them or provide another "
            "file."
        )


def _listed(given: list[str]) -> str:
    listed = ", ".join(field[:60] for field in given[:20])
    return f"{listed} and {len(given) - 20} more" if len(given) > 20 else listed


def _check_width(path: Path, layout: TextLayout, head: bytes, *, whole: bool) -> None:
    """Raise SourceError if none of the first rows has as many cells as there are columns."""
    rows = lines(head)
    rows = rows if whole else rows[:-1]  # the last row may be cut
    counts = [len(fields(row, layout)) for row in rows[:HEAD_ROWS]]
    if counts and len(layout.fields) not in counts:
        raise SourceError(
            f"The rows of {path} have {counts[0]} fields, but there are {len(layout.fields)} columns: "
            f"{_listed(list(layout.fields))}. Remove the surplus fields, or fill in those that are missing."
        )
