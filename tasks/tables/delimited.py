"""Tables that others wrote as delimited text or Parquet: the header, whatever separates it, and all cells as text.

Events have a faster reader of their own (`tasks.ingest.events`). It takes the header from here, so one rule decides what a
file's columns are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import SourceError
from tasks.tables.cell_text import NOT_UTF8, decoded, holds_bytes, no_text
from tasks.tables.formats import HEAD_BYTES, FileFormat, file_format, not_utf8, opened, read_bytes, suffix_of

__all__ = ["DAMAGE", "Cells", "Header", "column_names", "header_of", "read_cells"]

SEPARATORS = (",", ";", "\t")
TYPED = re.compile(r":(token|float)(_seq)?$")  # RecBole's atomic files name the type of each column
ATOMIC = (".inter", ".item", ".user")
DAMAGE = (pa.ArrowException, OSError, ValueError)  # raised by pyarrow for Parquet; column names may not be valid UTF-8


@dataclass(frozen=True)
class Header:
    """The columns of a text, in order.

    Attributes:
        separator: What separates two cells.
        names: The names, without surrounding spaces.
        is_atomic: It is the header of an atomic file of RecBole: tabs, no quotes, and a type after each name.
        data_from: The number of bytes of the file before its first row.
        is_utf8: The header is written in UTF-8. Otherwise `names` has replacement characters.
    """

    separator: str
    names: tuple[str, ...]
    is_atomic: bool
    data_from: int
    is_utf8: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of a table: numbers where Parquet has numbers, and text otherwise. Empty cells are missing."""

    frame: pd.DataFrame
    misshapen: npt.NDArray[np.bool_]  # rows with more or fewer cells than there are columns
    is_atomic: bool
    faults: Mapping[str, str] = field(default_factory=dict)  # of columns that have bytes, not text: sentences by name
    moments: frozenset[str] = frozenset()  # columns of a Parquet file that hold points in time


def header_of(path: Path, found: FileFormat, known: Collection[str]) -> Header:
    """Return the header of a text.

    The separator is the one of comma, semicolon and tab that gives the most names of `known`, and of those the one that gives the
    most columns.

    Raises:
        SourceError: The file is empty, or its first line has no end.
    """
    head = found.head
    if not head.strip():
        raise SourceError(f"{path} is empty. Provide a file with rows.")
    begin = len(head) - len(head.lstrip(b"\r\n "))
    ends = [place for place in (head.find(b"\n", begin), head.find(b"\r", begin)) if place >= 0]
    if not ends and not found.is_whole:
        raise SourceError(f"{path} has no line end in its first {HEAD_BYTES:,} bytes, so it is not a table.")
    end = min(ends, default=len(head))
    line = head[begin:end]
    text = line.decode("utf-8", "replace")
    data_from = found.mark + end + (2 if head.startswith(b"\r\n", end) else 1)
    is_utf8 = "\ufffd" not in text or b"\xef\xbf\xbd" in line
    typed = [field.strip() for field in text.split("\t")]
    if suffix_of(path) in ATOMIC or all(TYPED.search(field) for field in typed):
        return Header("\t", tuple(field.split(":")[0] for field in typed), True, data_from, is_utf8)
    best: tuple[str, list[str]] = (",", [text])
    for separator in SEPARATORS:
        try:
            names = [field.strip() for field in next(csv.reader([text], delimiter=separator))]
        except csv.Error:
            continue
        if _fit(names, known) > _fit(best[1], known):
            best = (separator, names)
    return Header(best[0], tuple(best[1]), False, data_from, is_utf8)


def column_names(path: Path, known: Collection[str]) -> tuple[list[str], bool]:
    """Return the names of a file's columns, and whether it is an atomic file of RecBole. Raises SourceError if it has none."""
    found = file_format(path)
    if not found.is_parquet:
        header = header_of(path, found, known)
        return list(header.names), header.is_atomic
    try:
        return list(pq.read_schema(path).names), False
    except DAMAGE as error:
        raise _no_parquet(path, error) from error


def read_cells(path: Path, known: Collection[str], of: str) -> Cells:
    """Read a table into memory.

    Args:
        path: The file.
        known: Names of columns that the file may have.
        of: What it describes, for the message about its encoding.

    Raises:
        SourceError: The file is missing, empty, damaged, or not written in UTF-8, or two columns of a Parquet file have one name.
    """
    found = file_format(path)
    if found.is_parquet:
        return _parquet_cells(path)
    header = header_of(path, found, known)
    with opened(path, is_gzipped=found.is_gzipped) as file:
        content = read_bytes(path, file)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, content, error, of=of) from error
    body = io.StringIO(content[header.data_from :].decode("utf-8"), newline="")
    width = len(header.names)
    try:
        reader = csv.reader(body, delimiter=header.separator, quoting=csv.QUOTE_NONE if header.is_atomic else csv.QUOTE_MINIMAL)
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise SourceError(f"{path} cannot be read as a table: {error}. It is damaged or in another format.") from error
    cells = [[cell or None for cell in (row + [""] * width)[:width]] for row in rows]
    frame = pd.DataFrame(cells, columns=list(header.names), dtype="string")
    return Cells(frame, np.array([len(row) != width for row in rows], dtype=bool), header.is_atomic)


def _fit(names: list[str], known: Collection[str]) -> tuple[int, int]:
    return sum(name in known for name in names), len(names)


def _parquet_cells(path: Path) -> Cells:
    try:
        table = pq.ParquetFile(path).read()
        if len(set(table.column_names)) < table.num_columns:
            raise SourceError(f"{path} has two columns with the same name. Remove one.")
        columns = {name: decoded(table.column(name)) for name in table.column_names}
        frame = pd.DataFrame({name: _cells_of(column) for name, column in columns.items()})
        kinds = {name: kind for name, kind in zip(table.column_names, table.schema.types, strict=True) if holds_bytes(kind)}
        faults = {
            name: no_text(name, path, kind)
            for name, kind in kinds.items()
            if pc.any(pc.match_substring(columns[name], NOT_UTF8)).as_py()
        }
    except DAMAGE as error:
        raise _no_parquet(path, error) from error
    moments = [each.name for each in table.schema if pa.types.is_timestamp(each.type) or pa.types.is_date(each.type)]
    return Cells(frame, np.zeros(table.num_rows, dtype=bool), False, faults, frozenset(moments))


def _cells_of(column: pa.ChunkedArray) -> pd.Series[Any]:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found: pd.Series[Any] = column.to_pandas(integer_object_nulls=True)
        return found
    return pd.Series([None if value is None else str(value) for value in column.to_pylist()], dtype="string")


def _no_parquet(path: Path, error: BaseException) -> SourceError:
    return SourceError(f"{path} is damaged, or no Parquet file: {error}. Write or copy it again.")
