"""Parse rows of delimited text into events: a fast parser for clean text, and a tolerant one that loses no row.

Every line is a row: a line end inside quotes also ends the row. Ids, times and numbers have no line ends, so nothing is lost, and a
stray quote can never swallow the rows after it. Blank lines are skipped.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from models.columns import Columns
from tasks.ingest.events.ids import BLANKS, MISSING
from tasks.ingest.events.judging import Judged, judge_events, times_of
from tasks.ingest.events.reading import RowRules
from tasks.ingest.events.row_checks import CELL_CHARACTERS, Checks
from tasks.ingest.events.times import is_text
from tasks.tables import column_type

__all__ = [
    "EventChunk",
    "TextLayout",
    "cells_of_text",
    "chunk_of_frame",
    "chunk_of_text",
    "fields",
    "kinds_of",
    "lines",
    "standard_cells",
]

BLOCK_BYTES = 1 << 22  # Arrow parses this many bytes at a time and refuses longer rows
LONGEST_PLAIN = BLOCK_BYTES // 4  # characters, of at most four bytes each
IntArray = npt.NDArray[np.int64]
FLOATS_EXACT_BELOW = 2.0**53
ARROW_TEXT = pd.ArrowDtype(pa.string())


@dataclass(frozen=True, eq=False)
class EventChunk:
    """Consecutive rows of an event file: rows == len(accepted) + len(quarantined) + left_out.

    `row` is the number of the data row in the file, from 0.

    Attributes:
        accepted: Columns.INTERACTION and, if events have one, their weight, in file order.
        quarantined: Columns.BAD_ROW: the reasons are joined by ;, and the cells (the original text) by |.
        rows: The number of rows.
        ids: The distinct numbers and texts of the text ids that the accepted rows have, by column.
        left_out: The number of good rows whose weight is 0.
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    rows: int
    ids: dict[str, pa.Table] = field(default_factory=dict)
    left_out: int = 0

    def following(self, rows: int) -> EventChunk:
        """Return this chunk with its rows numbered after `rows` others."""
        if not rows:
            return self
        accepted, quarantined = (
            frame.assign(**{Columns.ROW: frame[Columns.ROW] + rows}) for frame in (self.accepted, self.quarantined)
        )
        return replace(self, accepted=accepted, quarantined=quarantined)


@dataclass(frozen=True)
class TextLayout:
    """The layout of a row."""

    separator: str
    fields: tuple[str, ...]  # all fields of a row, in order; those that are read are named as in Columns
    quoted: bool  # cells may be in double quotes


def lines(text: bytes) -> list[str]:
    """Split a text into rows. Blank lines are skipped.

    Bytes that are not valid UTF-8 are replaced, so the affected cells are bad.
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


def chunk_of_text(text: bytes, layout: TextLayout, first_row: int, rules: RowRules) -> EventChunk:
    """Parse complete lines into events. `first_row` is the row number of the first line."""
    table = _numbers(text, layout, rules)
    if table is not None:
        return _chunk_of_numbers(text, table, layout, np.arange(first_row, first_row + len(table)), rules)
    texts = lines(text)
    plain = _plain_row(layout, kinds_of(rules))
    clean = np.fromiter(
        (len(line) <= LONGEST_PLAIN and plain.fullmatch(line) is not None for line in texts), dtype=bool, count=len(texts)
    )
    rows = np.arange(first_row, first_row + len(texts))
    chunks = [_chunk_of_lines([texts[number] for number in np.flatnonzero(~clean)], layout, rows[~clean], rules)]
    if clean.any():  # one bad cell must not make a million rows slow to read
        rest = "\n".join(texts[number] for number in np.flatnonzero(clean)).encode()
        table = _parsed(rest, layout, _types(rules), quoted=False)
        assert table is not None  # each of these rows is plain
        chunks.append(_chunk_of_numbers(rest, table, layout, rows[clean], rules))
    accepted, quarantined = (
        pd.concat([getattr(chunk, name) for chunk in chunks]).sort_values(Columns.ROW, ignore_index=True)
        for name in ("accepted", "quarantined")
    )
    ids = {name: pa.concat_tables([chunk.ids[name] for chunk in chunks]) for name in chunks[0].ids}
    left_out = sum(chunk.left_out for chunk in chunks)
    return EventChunk(accepted, quarantined, len(texts), {name: _distinct(table) for name, table in ids.items()}, left_out)


def cells_of_text(text: bytes, layout: TextLayout, rules: RowRules) -> pd.DataFrame:
    """Return the columns of complete lines, unchecked: numbers where a column holds nothing else, and otherwise text.

    Cells that a short row lacks are missing. The first cell of a row with too many cells holds the row as it was written.
    """
    columns = rules.reading.read_columns
    quoted = layout.quoted and b'"' in text
    table = None if quoted or _has_hexadecimal_byte(text) else _parsed(text, layout, _types(rules, kind=pa.int64()), quoted=False)
    table = table or _numbers(text, layout, rules)
    if table is not None:
        return _frame(table)
    places = [layout.fields.index(name) for name in columns]
    rows: list[list[str | None]] = []
    for line in lines(text):
        row = fields(line, layout)
        if len(row) > len(layout.fields):
            rows.append([line, *[None] * (len(columns) - 1)])
        else:
            rows.append([_cell(row[place]) if place < len(row) else None for place in places])
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    for name, kind in kinds_of(rules).items():
        if kind == "text":
            continue
        checks = Checks("interactions", frame[[name]])
        numbers = checks.numbers(name, whole=kind == "whole")
        if not checks.bad.any():
            frame[name] = numbers
        elif kind != "whole" and set(checks.reasons) == {f"{name} is missing"}:
            frame[name] = pd.to_numeric(frame[name])
    return frame


def standard_cells(cells: pd.DataFrame, rules: RowRules) -> pd.DataFrame:
    """Return raw cells in the form of MovieLens: times as UTC seconds where they can be read, and a rating for each event.

    Kinds of events become their weights. What cannot be read stays as it is.
    """
    found = cells if rules.reading.has_rating else cells.assign(**{Columns.RATING: 1.0})
    if rules.times != "s":
        checks = Checks("interactions", cells[[Columns.TIME]])
        seconds = pd.Series(times_of(checks, rules), index=cells.index)
        found = found.assign(
            **{Columns.TIME: seconds.astype(object).where(~checks.bad, cells[Columns.TIME]) if checks.bad.any() else seconds}
        )
    if rules.reading.has_weight and rules.reading.weights:
        kinds = cells[Columns.WEIGHT].astype(object)
        found = found.assign(**{Columns.WEIGHT: kinds.map(lambda kind: rules.reading.weights.get(str(kind).strip(BLANKS), kind))})
    weight = [Columns.WEIGHT] if rules.reading.has_weight else []
    return found[[*Columns.EVENT, *weight]]


def chunk_of_frame(raw: pd.DataFrame, first_row: int, rules: RowRules) -> EventChunk:
    """Return the events of a table that has the columns to read, as numbers or text."""
    checks = Checks("interactions", raw[list(rules.reading.read_columns)])
    return _chunk(checks, judge_events(checks, rules), np.arange(first_row, first_row + len(raw)))


def _chunk_of_numbers(text: bytes, table: pa.Table, layout: TextLayout, rows: IntArray, rules: RowRules) -> EventChunk:
    """Return the events in `table`, which `_parsed` made from the text."""
    whole = [name for name, kind in kinds_of(rules).items() if kind == "whole"]
    has_fractions = any(pa.types.is_floating(table.schema.field(name).type) for name in whole)
    written = _written(text, layout, rules) if has_fractions and (b"e" in text or b"E" in text) else None
    checks = Checks("interactions", _frame(table), written)
    judged = judge_events(checks, rules)
    if checks.bad.any():  # rare: parse again as text, to keep the cells as they were written
        checks.raw = _written(text, layout, rules) if written is None else written
    return _chunk(checks, judged, rows)


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return the columns. Whole numbers stay whole numbers if cells are missing, and text stays in Arrow's memory."""
    types: dict[pa.DataType, Any] = {pa.string(): ARROW_TEXT}
    if any(column.null_count for column in table.columns if pa.types.is_integer(column.type)):
        types[pa.int64()] = pd.Int64Dtype()
    found: pd.DataFrame = table.to_pandas(types_mapper=types.get)
    return found


def _written(text: bytes, layout: TextLayout, rules: RowRules) -> pd.DataFrame:
    """Return the cells of a text that parses as numbers, as they were written."""
    types = dict.fromkeys(rules.reading.read_columns, pa.string())
    original = _parsed(text, layout, types, quoted=layout.quoted and b'"' in text, written=True)
    assert original is not None  # what parses as numbers also parses as text
    return _frame(original)


def _chunk(checks: Checks, judged: Judged, rows: IntArray) -> EventChunk:
    columns = judged.columns
    ratings = columns[Columns.RATING].astype(np.float64, copy=False)
    event = {name: columns[name] for name in Columns.EVENT}
    weight = {Columns.WEIGHT: columns[Columns.WEIGHT]} if Columns.WEIGHT in columns else {}
    frame = pd.DataFrame({**event, Columns.RATING: ratings, Columns.ROW: rows, **weight}, copy=False)
    kept = ~(checks.bad | judged.left_out)
    bad = checks.quarantined()
    if len(bad):
        bad[Columns.ROW] = rows[bad[Columns.ROW].to_numpy()]
    if not kept.all():
        frame = frame[kept].reset_index(drop=True)
    return EventChunk(frame, bad, len(rows), judged.ids(kept), int(judged.left_out.sum()))


def _distinct(ids: pa.Table) -> pa.Table:
    return ids.group_by(ids.column_names).aggregate([])


def kinds_of(rules: RowRules) -> dict[str, str]:
    """Return what each column holds: `whole` numbers, other numbers (`float`), or `text`."""
    reading = rules.reading
    found = dict.fromkeys(reading.read_columns, "whole")
    found |= {name: "float" for name in (Columns.RATING, Columns.WEIGHT) if name in found}
    found |= dict.fromkeys(reading.text_ids, "text")
    found |= {Columns.TIME: "text"} if is_text(rules.times) else {}
    return found | ({Columns.WEIGHT: "text"} if reading.has_weight and reading.weights else {})


def _types(rules: RowRules, kind: pa.DataType | None = None) -> dict[str, pa.DataType]:
    """Return the type of each column, with `kind` for all numbers."""
    return {
        name: pa.string() if held == "text" else kind or pa.from_numpy_dtype(column_type(name))
        for name, held in kinds_of(rules).items()
    }


@lru_cache(maxsize=64)
def _plain_pattern(layout: TextLayout, kinds: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    other = rf'[^{re.escape(layout.separator)}"]*'
    patterns = {"whole": "[0-9]{1,18}", "float": r"[0-9]{1,15}(\.[0-9]{1,15})?", "text": other}
    of = dict(kinds)
    return re.compile(re.escape(layout.separator).join(patterns[of.get(name, "text")] for name in layout.fields))


def _plain_row(layout: TextLayout, kinds: dict[str, str]) -> re.Pattern[str]:
    """Return a pattern for rows that both parsers surely turn into the same numbers and texts."""
    return _plain_pattern(layout, tuple(kinds.items()))


def _numbers(text: bytes, layout: TextLayout, rules: RowRules) -> pa.Table | None:
    """Return the numbers and texts, or None if a row has a wrong number of cells, or a cell is not a number that is exact."""
    quoted = layout.quoted and b'"' in text
    kinds = kinds_of(rules)
    if quoted and "text" in kinds.values() and not _is_well_quoted(text, layout):
        return None
    table = _parsed(text, layout, _types(rules), quoted=quoted)
    if table is not None and _has_hexadecimal_byte(text) and _has_hexadecimal(text, layout, kinds):
        table = None
    if table is None:
        table = _parsed(text, layout, _types(rules, kind=pa.float64()), quoted=quoted)
        whole = [name for name, kind in kinds.items() if kind == "whole"]
        if table is None or any(_is_rounded(table.column(name)) for name in whole):
            return None
    return table if not quoted or len(table) == _plain_lines(text) else None  # None: a quote swallowed a line end


def _has_hexadecimal_byte(text: bytes) -> bool:
    return (b"x" in text and b"0x" in text) or (b"X" in text and b"0X" in text)  # one byte is found faster than two


def _has_hexadecimal(text: bytes, layout: TextLayout, kinds: dict[str, str]) -> bool:
    """Return whether a cell is a hexadecimal number, which Arrow would read as a whole number."""
    types = {name: pa.string() for name, kind in kinds.items() if kind != "text"}
    if not types:  # Arrow takes no types for all columns, each of a type that it finds out
        return False
    cells = _parsed(text, layout, types, quoted=layout.quoted and b'"' in text, written=True)
    return cells is not None and any(
        pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py() for column in cells.columns
    )


def _is_well_quoted(text: bytes, layout: TextLayout) -> bool:
    """Return whether each quote surely begins or ends a cell, so that all parsers agree about the cells."""
    separator = layout.separator.encode()
    begins = text.count(separator + b'"') + text.count(b'\n"') + text.startswith(b'"')
    ends = text.count(b'"' + separator) + text.count(b'"\n') + text.count(b'"\r') + text.endswith(b'"')
    return begins == ends and begins + ends == text.count(b'"')


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


def _parsed(
    text: bytes, layout: TextLayout, types: dict[str, pa.DataType], *, quoted: bool, written: bool = False
) -> pa.Table | None:
    """Return the columns in `types`, or None if the text does not fit. With `written`, texts that mark a missing cell stay as they are."""
    separator = layout.separator
    if len(separator) > 1:  # Arrow only splits at a single character
        text, separator = text.replace(b"\t", b" ").replace(separator.encode(), b"\t"), "\t"
    names = [name if name in types else f"other {place}" for place, name in enumerate(layout.fields)]
    try:
        return pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, ignore_empty_lines=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=list(MISSING),
                strings_can_be_null=not written,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _chunk_of_lines(texts: list[str], layout: TextLayout, numbers: IntArray, rules: RowRules) -> EventChunk:
    """Parse row by row. Rows with as many cells as columns are checked cell by cell, and the others are quarantined.

    Args:
        numbers: The number of each row.
    """
    rows = [fields(text, layout) for text in texts]
    fits = np.array([len(row) == len(layout.fields) for row in rows], dtype=bool)
    columns = rules.reading.read_columns
    places = [layout.fields.index(name) for name in columns]
    cells = [[_cell(rows[number][place]) for place in places] for number in np.flatnonzero(fits)]
    checks = Checks("interactions", pd.DataFrame(cells, columns=list(columns), dtype=object))
    chunk = _chunk(checks, judge_events(checks, rules), numbers[fits])
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
    return replace(chunk, quarantined=pd.concat([chunk.quarantined, ragged], ignore_index=True), rows=len(texts))


def _cell(text: str) -> str | None:
    """Return the cell without surrounding spaces, or None if it is missing."""
    trimmed = text.strip(BLANKS)
    return None if trimmed in MISSING else trimmed


def _count_reason(count: int, layout: TextLayout) -> str:
    return f"the row has {count} cell{'s' if count != 1 else ''}, not {len(layout.fields)}"
