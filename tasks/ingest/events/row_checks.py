"""Check the rows of one raw table: which rows are bad, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.columns import Columns
from tasks.ingest.events.remedies import LARGEST

__all__ = ["CELL_CHARACTERS", "Checks", "IntArray", "Mask", "Numbers", "joined_cells", "whole_numbers"]

CELL_CHARACTERS = 200  # characters kept of a quarantined cell
WHOLE_NUMBER = r"^\s*[+-]?0{0,99}[0-9]{1,19}\s*$"  # longer ones are too large, and slow to convert
SCIENTIFIC = r"^\s*[+-]?[0-9]+\.?(?P<fraction>[0-9]*)[eE]\+?(?P<power>[0-9]+)\s*$"
LONG_POWER = 11  # Excel writes whole numbers of more digits as 9.78031E+12
SHORTER_BY = 5  # R writes 100000 as 1e+05, and loses nothing: it does so only where that is shorter

Mask = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64] | IntArray


class Checks:
    """The faults found in one raw table, by row. Cells are numbers, text, or missing.

    Attributes:
        name: The table.
        raw: The cells.
        bad: Rows with a fault.
        reasons: The rows of each fault.
    """

    def __init__(self, name: str, raw: pd.DataFrame, written: pd.DataFrame | None = None) -> None:
        """Start without faults. `written` has the cells as text, if those of `raw` were parsed from text."""
        self.name, self.raw = name, raw
        self.bad: Mask = np.zeros(len(raw), dtype=bool)
        self.reasons: dict[str, Mask] = {}
        self._written = raw if written is None else written

    def mark(self, mask: Mask, reason: str) -> None:
        """Mark rows as bad, with the reason."""
        if mask.any():
            self.reasons[reason] = self.reasons[reason] | mask if reason in self.reasons else mask
            self.bad = self.bad | mask

    def faulty(self, column: str) -> Mask:
        """Return the rows in which a fault of this column was found."""
        found = [mask for reason, mask in self.reasons.items() if reason.startswith(f"{column} ")]
        return np.logical_or.reduce(found) if found else np.zeros(len(self.raw), dtype=bool)

    def numbers(self, column: str, *, whole: bool, floored: bool = False) -> Numbers:
        """Return the column as numbers. Cells that are not valid numbers are marked as bad and replaced by 0.

        Whole numbers are exact up to 2^63 - 1. Where only a float can tell the value, they are refused from 2^53 on. With `floored`,
        fractions are cut off instead of refused.
        """
        cells = self.raw[column]
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "i":
            return cells.to_numpy(np.int64)
        missing = cells.isna().to_numpy(np.bool_)
        self.mark(missing, f"{column} is missing")
        if pd.api.types.is_integer_dtype(cells.dtype):  # unsigned, or with missing cells
            found = cells.fillna(0).to_numpy(np.uint64 if str(cells.dtype).lower().startswith("u") else np.int64)
            large = found > LARGEST
            self.mark(large, f"{column} is too large")
            return np.where(large, 0, found).astype(np.int64)
        if whole:
            return self._whole(column, cells, missing, floored=floored)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        self.mark(~finite & ~missing, f"{column} is not a number")
        return np.where(finite, values, 0)

    def _whole(self, column: str, cells: pd.Series[Any], missing: Mask, *, floored: bool) -> IntArray:
        """Return whole numbers of floats or of text. Text without a decimal point and without an exponent is exact."""
        found = np.zeros(len(cells), dtype=np.int64)
        limit, exact = 2.0**53, np.zeros(len(cells), dtype=bool)
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "f":
            limit = 2.0 ** (np.finfo(cells.to_numpy().dtype).nmant + 1)
        else:
            texts = pa.array(cells.astype("string"), pa.string(), from_pandas=True)
            exact = np.asarray(pc.fill_null(pc.match_substring_regex(texts, WHOLE_NUMBER), False))
            numbers = [int(text) for text in texts.filter(pa.array(exact)).to_pylist()]
            large = np.array([abs(number) > LARGEST for number in numbers], dtype=bool)
            found[exact] = [number if abs(number) <= LARGEST else 0 for number in numbers]
            beyond = exact.copy()
            beyond[exact] = large
            self.mark(beyond, f"{column} is too large")
        values = np.zeros(len(cells))
        rest = ~exact & ~missing
        if rest.any():
            values[rest] = pd.to_numeric(cells[rest], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        self.mark(rest & ~finite, f"{column} is not a number")
        if not floored:
            self.mark(rest & finite & (np.floor(values) != values), f"{column} is not a whole number")
        self.mark(rest & finite & (np.abs(values) >= 2.0**63), f"{column} is too large")
        rounded = rest & finite & (np.abs(values) >= limit) & (np.abs(values) < 2.0**63)
        self.mark(rounded, f"{column} is a decimal number whose last digits are lost")
        usable = rest & finite & (np.abs(values) < limit)
        self.mark(usable & self._lost_digits(column), f"{column} is in scientific notation, which dropped its last digits")
        found[usable] = np.floor(values[usable]).astype(np.int64)
        return found

    def _lost_digits(self, column: str) -> Mask:
        """Return the rows whose number is written in scientific notation with fewer digits than it has."""
        cells = self._written[column]
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "iuf":
            return np.zeros(len(cells), dtype=bool)
        parts = pc.extract_regex(pa.array(cells.astype("string"), pa.string(), from_pandas=True), SCIENTIFIC)
        given = np.asarray(parts.is_valid())
        lost = np.zeros(len(cells), dtype=bool)
        if given.any():
            fraction, power = (pc.struct_field(parts, name).filter(pa.array(given)) for name in ("fraction", "power"))
            digits = np.asarray(pc.utf8_length(fraction)).astype(np.int64)
            powers = np.array([min(int(text), 400) for text in power.to_pylist()], dtype=np.int64)
            lost[given] = digits < powers
            if column != Columns.TIME:  # ids such as 100000 are round by chance, and times hardly ever are
                shorter = (digits < powers - SHORTER_BY) | ((digits == 0) & (powers >= SHORTER_BY))
                lost[given] &= (powers >= LONG_POWER) | ~shorter
        return lost

    def counts(self) -> dict[str, int]:
        """Return the number of rows for each reason."""
        return {reason: int(mask.sum()) for reason, mask in sorted(self.reasons.items())}

    def quarantined(self) -> pd.DataFrame:
        """Return row (position in the table), reasons (joined by ;) and cells (the original cells, as text) of each bad row."""
        rows = np.flatnonzero(self.bad)
        return pd.DataFrame(
            {
                Columns.ROW: rows.astype(np.int64),
                Columns.REASONS: self._reasons_of(rows),
                Columns.CELLS: joined_cells(self.raw.iloc[rows]),
            }
        )

    def _reasons_of(self, rows: npt.NDArray[np.intp]) -> pd.Series[str]:
        code, texts = np.zeros(len(rows), dtype=np.int64), []
        for place, mask in enumerate(self.reasons.values()):
            code |= mask[rows].astype(np.int64) << place
        found, inverse = np.unique(code, return_inverse=True)
        for each in found:
            texts.append("; ".join(reason for place, reason in enumerate(self.reasons) if each >> place & 1))
        return pd.Series(np.array(texts, dtype=object)[inverse], dtype="string")


def whole_numbers(cells: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return cells as exact whole numbers, or -1 for a cell that is none."""
    checks = Checks("cells", cells.to_frame("cell"))
    found = checks.numbers("cell", whole=True).astype(np.int64)
    return np.where(checks.bad, -1, found)


def joined_cells(raw: pd.DataFrame) -> pd.Series[str]:
    """Return the cells of each row as text, joined by |. Missing cells are empty, and long cells are cut."""
    texts = []
    for place in range(raw.shape[1]):
        text = pa.array(raw.iloc[:, place].astype("string").fillna(""), pa.string(), from_pandas=True)
        texts.append(pc.utf8_slice_codeunits(text, 0, CELL_CHARACTERS))
    joined = pc.binary_join_element_wise(*texts, " | ") if texts else pa.nulls(len(raw), pa.string())
    return pd.Series(joined.to_pandas(), dtype="string")
