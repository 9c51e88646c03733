"""Parse rows of delimited text into events: a fast parser for clean text, and a tolerant one that loses no row.

Every line is a row: a line end inside quotes also ends the row. Events are numbers, so nothing is lost, and a stray quote can
never swallow the rows after it. Blank lines are skipped.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.events.row_checks import CELL_CHARACTERS, Checks, Numbers, judge_events
from tasks.tables import column_type

__all__ = ["MISSING", "EventChunk", "TextLayout", "cells_of_text", "chunk_of_frame", "chunk_of_text", "fields", "lines"]

MISSING = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL"),
        *("NaN", "None", "n/a", "nan", "null"),
    )
)
"""Texts that count as a missing cell, as in pandas.read_csv."""
BLOCK_BYTES = 1 << 22  # Arrow parses this many bytes at a time and refuses longer rows
LONGEST_PLAIN = BLOCK_BYTES // 4  # characters, of at most four bytes each
IntArray = npt.NDArray[np.int64]
WHOLE = {name: pa.from_numpy_dtype(column_type(name)) for name in Columns.EVENT}
WHOLE_COLUMNS = tuple(name for name in Columns.EVENT if name != Columns.RATING)
FLOATS_EXACT_BELOW = 2.0**53
INTEGERS = {name: pa.int64() for name in Columns.EVENT}
FLOATS = {name: pa.float64() for name in Columns.EVENT}
TEXTS = {name: pa.string() for name in Columns.EVENT}


@dataclass(frozen=True, eq=False)
class EventChunk:
    """Consecutive rows of an event file: rows == len(accepted) + len(quarantined).

    `row` is the number of the data row in the file, from 0.

    Attributes:
        accepted: Columns.INTERACTION, in file order.
        quarantined: Columns.BAD_ROW: the reasons are joined by ;, and the cells (the original text) by |.
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    rows: int

    def following(self, rows: int) -> EventChunk:
        """Return this chunk with its rows numbered after `rows` others."""
        if not rows:
            return self
        accepted, quarantined = (
            frame.assign(**{Columns.ROW: frame[Columns.ROW] + rows}) for frame in (self.accepted, self.quarantined)
        )
        return EventChunk(accepted, quarantined, self.rows)


@dataclass(frozen=True)
class TextLayout:
    """The layout of a row."""

    separator: str
    fields: tuple[str, ...]  # all fields of a row, in order; those that are read are named as in Columns.EVENT
    quoted: bool  # cells may be in double quotes


def lines(text: bytes) -> list[str]:
    """Split a text into rows. Blank lines are skipped.

    Bytes that are not valid UTF-8 are replaced, so the affected cells later fail numeric validation.
    """
    return [
        line for line in text.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip(" ")
    ]


def fields(line: str, layout: TextLayout) -> list[str]:
    """Return the cells of a row."""
    if layout.quoted and '"' in line:
        try:
            return next(csv.reader([line], delimiter=layout.separator))
        except csv.Error:  # a field exceeds the size limit of the csv module
            return line.split(layout.separator)
    return line.split(layout.separator)


def chunk_of_text(text: bytes, layout: TextLayout, first_row: int, settings: ValidationSettings, now: int) -> EventChunk:
    """Parse complete lines into events.

    Args:
        first_row: The row number of the first line.
        now: UTC seconds.
    """
    table = _numbers(text, layout)
    if table is not None:
        return _chunk_of_numbers(text, table, layout, np.arange(first_row, first_row + len(table)), settings, now)
    texts = lines(text)
    plain = _plain_row(layout)
    clean = np.fromiter(
        (len(line) <= LONGEST_PLAIN and plain.fullmatch(line) is not None for line in texts), dtype=bool, count=len(texts)
    )
    rows = np.arange(first_row, first_row + len(texts))
    chunks = [_chunk_of_lines([texts[number] for number in np.flatnonzero(~clean)], layout, rows[~clean], settings, now)]
    if clean.any():  # one bad cell must not make a million rows slow to read
        rest = "\n".join(texts[number] for number in np.flatnonzero(clean)).encode()
        table = _parsed(rest, layout, WHOLE, quoted=False)
        assert table is not None  # each of these rows is plain
        chunks.append(_chunk_of_numbers(rest, table, layout, rows[clean], settings, now))
    accepted, quarantined = (
        pd.concat([getattr(chunk, name) for chunk in chunks]).sort_values(Columns.ROW, ignore_index=True)
        for name in ("accepted", "quarantined")
    )
    return EventChunk(accepted, quarantined, len(texts))


def cells_of_text(text: bytes, layout: TextLayout) -> pd.DataFrame:
    """Return Columns.EVENT of complete lines, unchecked: numbers where a column holds nothing else, and otherwise text.

    Cells that a short row lacks are missing. A row with too many cells stands in its first cell, as it was written.
    """
    quoted = layout.quoted and b'"' in text
    table = None if quoted or _has_hexadecimal_byte(text) else _parsed(text, layout, INTEGERS, quoted=False)
    table = table or _numbers(text, layout)
    if table is not None:
        return _frame(table)
    places = [layout.fields.index(name) for name in Columns.EVENT]
    rows = []
    for line in lines(text):
        row = fields(line, layout)
        if len(row) > len(layout.fields):
            rows.append([line, None, None, None])
        else:
            rows.append([_cell(row[place]) if place < len(row) else None for place in places])
    frame = pd.DataFrame(rows, columns=list(Columns.EVENT), dtype=object)
    for name in Columns.EVENT:
        checks = Checks("interactions", frame[[name]])
        numbers = checks.numbers(name, whole=name != Columns.RATING)
        if not checks.bad.any():
            frame[name] = numbers
        elif name == Columns.RATING and set(checks.reasons) == {f"{name} is missing"}:
            frame[name] = pd.to_numeric(frame[name])
    return frame


def chunk_of_frame(raw: pd.DataFrame, first_row: int, settings: ValidationSettings, now: int) -> EventChunk:
    """Return the events of a table that has Columns.EVENT as numbers or text."""
    checks = Checks("interactions", raw[list(Columns.EVENT)])
    columns = judge_events(checks, settings, now)
    return _chunk(checks, columns, np.arange(first_row, first_row + len(raw)))


def _chunk_of_numbers(
    text: bytes, table: pa.Table, layout: TextLayout, rows: IntArray, settings: ValidationSettings, now: int
) -> EventChunk:
    """Return the events in `table`, which `_parsed` made from the text."""
    has_fractions = any(pa.types.is_floating(table.schema.field(name).type) for name in WHOLE_COLUMNS)
    written = _written(text, layout) if has_fractions and (b"e" in text or b"E" in text) else None
    checks = Checks("interactions", _frame(table), written)
    columns = judge_events(checks, settings, now)
    if checks.bad.any():  # rare: parse again as text, to keep the cells as they were written
        checks.raw = _written(text, layout) if written is None else written
    return _chunk(checks, columns, rows)


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return the columns. Whole numbers stay whole numbers if cells are missing."""
    missing = any(column.null_count for column in table.columns)
    found: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get if missing else None)
    return found


def _written(text: bytes, layout: TextLayout) -> pd.DataFrame:
    """Return the cells of a text that parses as numbers, as they were written."""
    original = _parsed(text, layout, TEXTS, quoted=layout.quoted and b'"' in text)
    assert original is not None  # what parses as numbers also parses as text
    found: pd.DataFrame = original.to_pandas()
    return found


def _chunk(checks: Checks, columns: dict[str, Numbers], rows: IntArray) -> EventChunk:
    ratings = columns[Columns.RATING].astype(np.float64, copy=False)
    frame = pd.DataFrame({**columns, Columns.RATING: ratings, Columns.ROW: rows}, copy=False)
    bad = checks.quarantined()
    if len(bad):
        frame = frame[~checks.bad].reset_index(drop=True)
        bad[Columns.ROW] = rows[bad[Columns.ROW].to_numpy()]
    return EventChunk(frame, bad, len(rows))


@lru_cache(maxsize=64)
def _plain_row(layout: TextLayout) -> re.Pattern[str]:
    """Return a pattern for rows that both parsers surely turn into the same numbers."""
    number = {Columns.RATING: r"[0-9]{1,15}(\.[0-9]{1,15})?"}
    other = rf'[^{re.escape(layout.separator)}"]*'
    cells = [number.get(name, "[0-9]{1,18}") if name in Columns.EVENT else other for name in layout.fields]
    return re.compile(re.escape(layout.separator).join(cells))


def _numbers(text: bytes, layout: TextLayout) -> pa.Table | None:
    """Return the numbers in the text, or None if a row has a wrong number of cells, or a cell is not a number that is exact."""
    quoted = layout.quoted and b'"' in text
    table = _parsed(text, layout, WHOLE, quoted=quoted)
    if table is not None and _has_hexadecimal_byte(text) and _has_hexadecimal(text, layout):
        table = None
    if table is None:
        table = _parsed(text, layout, FLOATS, quoted=quoted)
        if table is None or any(_is_rounded(table.column(name)) for name in WHOLE_COLUMNS):
            return None
    return table if not quoted or len(table) == _plain_lines(text) else None  # None: a quote swallowed a line end


def _has_hexadecimal_byte(text: bytes) -> bool:
    return b"x" in text or b"X" in text


def _has_hexadecimal(text: bytes, layout: TextLayout) -> bool:
    """Return whether a cell is a hexadecimal number, which Arrow would read as a whole number."""
    cells = _parsed(text, layout, TEXTS, quoted=layout.quoted and b'"' in text)
    return cells is not None and any(
        pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py() for column in cells.columns
    )


def _is_rounded(column: pa.ChunkedArray) -> bool:
    """Return whether a float is so large that it may stand for several whole numbers."""
    extent = pc.min_max(column)
    return any((abs(bound.as_py() or 0) >= FLOATS_EXACT_BELOW) for bound in (extent["min"], extent["max"]))


def _plain_lines(text: bytes) -> int:
    """Return the number of lines, assuming that none is blank, or -1 if line ends are mixed."""
    ends = text.count(b"\n")
    if text.count(b"\r") not in (0, ends) or text.count(b"\r") != text.count(b"\r\n"):
        return -1
    return ends + (not text.endswith(b"\n"))


def _parsed(text: bytes, layout: TextLayout, types: dict[str, pa.DataType], *, quoted: bool) -> pa.Table | None:
    separator = layout.separator
    if len(separator) > 1:  # Arrow only splits at a single character
        text, separator = text.replace(b"\t", b" ").replace(separator.encode(), b"\t"), "\t"
    names = [name if name in Columns.EVENT else f"other {place}" for place, name in enumerate(layout.fields)]
    try:
        return pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, ignore_empty_lines=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=list(Columns.EVENT),
                null_values=list(MISSING),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _chunk_of_lines(
    texts: list[str], layout: TextLayout, numbers: IntArray, settings: ValidationSettings, now: int
) -> EventChunk:
    """Parse row by row. Rows with as many cells as columns are checked cell by cell, and the others are quarantined.

    Args:
        numbers: The number of each row.
    """
    rows = [fields(text, layout) for text in texts]
    fits = np.array([len(row) == len(layout.fields) for row in rows], dtype=bool)
    places = [layout.fields.index(name) for name in Columns.EVENT]
    cells = [[_cell(rows[number][place]) for place in places] for number in np.flatnonzero(fits)]
    checks = Checks("interactions", pd.DataFrame(cells, columns=list(Columns.EVENT), dtype=object))
    columns = judge_events(checks, settings, now)
    chunk = _chunk(checks, columns, numbers[fits])
    odd = np.flatnonzero(~fits)
    ragged = pd.DataFrame(
        {
            Columns.ROW: numbers[odd],
            Columns.REASONS: pd.Series([_count_reason(len(rows[number]), layout) for number in odd], dtype="string"),
            Columns.CELLS: pd.Series(
                [" | ".join(cell[:CELL_CHARACTERS] for cell in rows[number][:20]) for number in odd], dtype="string"
            ),
        }
    )
    return EventChunk(chunk.accepted, pd.concat([chunk.quarantined, ragged], ignore_index=True), len(texts))


def _cell(text: str) -> str | None:
    """Return the cell without surrounding blanks, or None if it is missing."""
    trimmed = text.strip(" \t")
    return None if trimmed in MISSING else trimmed


def _count_reason(count: int, layout: TextLayout) -> str:
    return f"the row has {count} cell{'s' if count != 1 else ''}, not {len(layout.fields)}"
