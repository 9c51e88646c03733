"""Digests of content, not of file bytes, so that another Parquet writer gives the same digest.

`EventDigest` is an order-independent digest of a set of events, to which events can be added and from which they can be removed.
Each event is mixed into two 64-bit words, and the words are summed (AdHash: Bellare and Micciancio, EUROCRYPT 1997). The digest
shows whether two versions hold the same events. It is not a signature. The sha256 of a version's parts serves as one, and the
version's name contains both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from models.columns import Columns
from tasks.tables import column_type, id_digests

__all__ = ["EventDigest", "IdDigest", "plain_cells"]

Words = npt.NDArray[np.uint64]
BLOCK_ROWS = 1 << 16  # small enough for temporaries to stay in the CPU cache
SEEDS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class EventDigest:
    """The digest of a set of (user, item, rating, time), with the weight if events have one."""

    rows: int = 0
    high: str = "0" * 16
    low: str = "0" * 16

    @classmethod
    def of(cls, events: dict[str, npt.NDArray[Any]] | pd.DataFrame) -> EventDigest:
        """Return the digest of Columns.EVENT and, if it is there, Columns.WEIGHT, which have the same length."""
        names = [*Columns.EVENT, *([Columns.WEIGHT] if Columns.WEIGHT in events else [])]
        columns = [np.ascontiguousarray(events[name], dtype=column_type(name)).view(np.uint64) for name in names]
        sums = [0, 0]
        for start in range(0, len(columns[0]), BLOCK_ROWS):
            block = [column[start : start + BLOCK_ROWS] for column in columns]
            for lane, seed in enumerate(SEEDS):
                word = np.full(len(block[0]), seed, dtype=np.uint64)
                for column in block:
                    word = _mixed(word ^ column)
                sums[lane] += int(word.sum(dtype=np.uint64))
        return cls(len(columns[0]), *(f"{found & MASK:016x}" for found in sums))

    def __add__(self, other: EventDigest) -> EventDigest:
        return self._joined(other, 1)

    def __sub__(self, other: EventDigest) -> EventDigest:
        return self._joined(other, -1)

    def _joined(self, other: EventDigest, sign: int) -> EventDigest:
        pairs = ((self.high, other.high), (self.low, other.low))
        return EventDigest(
            self.rows + sign * other.rows, *(f"{(int(own, 16) + sign * int(its, 16)) & MASK:016x}" for own, its in pairs)
        )


@dataclass(frozen=True)
class IdDigest:
    """The digest of a set of (number, text): the map of a column whose ids are text."""

    rows: int = 0
    word: str = "0" * 16

    @classmethod
    def of(cls, numbers: npt.NDArray[np.int64], texts: pa.Array | pa.ChunkedArray) -> IdDigest:
        return cls(len(numbers), f"{int(id_digests(numbers, texts).sum(dtype=np.uint64)) & MASK:016x}")

    def __add__(self, other: IdDigest) -> IdDigest:
        return IdDigest(self.rows + other.rows, f"{(int(self.word, 16) + int(other.word, 16)) & MASK:016x}")


def plain_cells(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Return plain numbers unchanged, and all other or nullable cells as their text representation."""
    if column.dtype.kind in "iuf" and not pd.api.types.is_extension_array_dtype(column.dtype):
        return column.to_numpy()
    return column.astype("object").where(column.notna(), None).map(repr).to_numpy(object)


def _mixed(word: Words) -> Words:
    """Apply the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
