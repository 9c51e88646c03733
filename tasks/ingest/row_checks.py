"""Check the rows of one raw table: which rows are bad, and why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from configs.settings import ValidationSettings
from models.columns import Columns

__all__ = ["MILLISECONDS_FROM", "WHOLE_BELOW", "Checks", "Mask", "Numbers", "joined_cells", "judge_events"]

MILLISECONDS_FROM = 100_000_000_000  # in seconds, this is the year 5138
WHOLE_BELOW = 2.0**53  # from here on, a float cannot represent every whole number
CELL_CHARACTERS = 200  # characters kept of a quarantined cell

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64]


class Checks:
    """The faults found in one raw table, by row. Cells are numbers, text, or missing."""

    def __init__(self, name: str, raw: pd.DataFrame) -> None:
        self.name, self.raw = name, raw
        self.bad: Mask = np.zeros(len(raw), dtype=bool)
        self.reasons: dict[str, Mask] = {}

    def mark(self, mask: Mask, reason: str) -> None:
        """Mark rows as bad, with the reason."""
        if mask.any():
            self.reasons[reason] = self.reasons[reason] | mask if reason in self.reasons else mask
            self.bad = self.bad | mask

    def numbers(self, column: str, *, whole: bool) -> Numbers:
        """Return the column as numbers. Cells that are not valid numbers are marked as bad and replaced by 0."""
        cells = self.raw[column]
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "i":  # unsigned cells may not fit; they are checked below
            numbers = cells.to_numpy(np.int64)
            if whole and len(numbers) and max(int(numbers.max()), -int(numbers.min())) >= WHOLE_BELOW:
                large = (numbers >= int(WHOLE_BELOW)) | (numbers <= -int(WHOLE_BELOW))
                self.mark(large, f"{column} is too large")
                return np.where(large, 0, numbers)
            return numbers
        missing = cells.isna().to_numpy(np.bool_)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        self.mark(missing, f"{column} is missing")
        self.mark(~finite & ~missing, f"{column} is not a number")
        if whole:
            self.mark(finite & (np.floor(values) != values), f"{column} is not a whole number")
            self.mark(finite & (np.abs(values) >= WHOLE_BELOW), f"{column} is too large")
            return np.where(finite & (np.abs(values) < WHOLE_BELOW), values, 0).astype(np.int64)
        return np.where(finite, values, 0)

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


def judge_events(checks: Checks, settings: ValidationSettings, now: int) -> dict[str, Numbers]:
    """Return Columns.EVENT of raw events as numbers, and mark the bad rows.

    `now` is UTC seconds.
    """
    columns = {name: checks.numbers(name, whole=name != Columns.RATING) for name in Columns.EVENT}
    parsed = ~checks.bad  # ranges are checked only in rows whose cells are all numbers
    for name in (Columns.USER, Columns.ITEM):
        checks.mark(parsed & (columns[name] < 0), f"{name} is negative")
    rating, time = columns[Columns.RATING], columns[Columns.TIME]
    outside = (rating < settings.min_rating) | (rating > settings.max_rating)
    checks.mark(parsed & outside, f"{Columns.RATING} is outside {settings.min_rating:g} to {settings.max_rating:g}")
    in_milliseconds = time > MILLISECONDS_FROM
    checks.mark(parsed & in_milliseconds, f"{Columns.TIME} is in milliseconds, not seconds")
    checks.mark(parsed & (time < 0), f"{Columns.TIME} is negative")
    checks.mark(parsed & (time >= 0) & (time < settings.earliest), f"{Columns.TIME} lies before the first MovieLens rating")
    checks.mark(parsed & ~in_milliseconds & (time > now + settings.max_future_s), f"{Columns.TIME} lies in the future")
    return columns


def joined_cells(raw: pd.DataFrame) -> pd.Series[str]:
    """Return the cells of each row as text, joined by |. Missing cells are empty, and long cells are cut."""
    texts = []
    for place in range(raw.shape[1]):
        text = pa.array(raw.iloc[:, place].astype("string").fillna(""), pa.string(), from_pandas=True)
        texts.append(pc.utf8_slice_codeunits(text, 0, CELL_CHARACTERS))
    joined = pc.binary_join_element_wise(*texts, " | ") if texts else pa.nulls(len(raw), pa.string())
    return pd.Series(joined.to_pandas(), dtype="string")
