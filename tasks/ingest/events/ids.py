"""Read text ids: which of them are good, and their numbers. Each distinct text of a chunk is looked at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.identity import numbers_of
from tasks.tables import NOT_UTF8, NUMBER, TEXT

__all__ = ["BLANKS", "LONGEST_ID", "MISSING", "TextIds", "read_ids", "trimmed"]

LONGEST_ID = 500  # bytes
BLANKS = " \t\ufeff"
"""Characters around a cell that do not belong to it. The last one is the byte order mark, which joined files have between them."""
MISSING = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL"),
        *("NaN", "None", "n/a", "nan", "null"),
    )
)
"""Texts that count as a missing cell, as in pandas.read_csv."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TextIds:
    """The text ids of a column.

    Attributes:
        numbers: Their numbers (n), 0 where an id is bad or missing.
        faults: Rows (n) by what is wrong with their id.
    """

    numbers: npt.NDArray[np.int64]
    faults: dict[str, Mask]
    _places: npt.NDArray[np.int64]  # of each row's text in the tables below
    _texts: pa.Array
    _of_texts: npt.NDArray[np.int64]

    def pairs(self, kept: Mask) -> pa.Table:
        """Return the distinct numbers and texts of the rows in the mask (n)."""
        used = np.flatnonzero(np.bincount(self._places[kept], minlength=len(self._of_texts)))
        return pa.table({NUMBER: self._of_texts[used], TEXT: self._texts.take(pa.array(used))})


def trimmed(texts: pa.Array) -> pa.Array:
    """Return texts without the spaces around them. Those that mark a missing cell become missing."""
    bare = pc.utf8_trim(texts, characters=BLANKS)
    return pc.if_else(pc.is_in(bare, value_set=pa.array(sorted(MISSING), bare.type)), pa.scalar(None, bare.type), bare)


def read_ids(cells: pa.Array, refused: Collection[str] = ()) -> TextIds:
    """Return the ids in cells of text (n).

    Args:
        cells: The cells, as they were written.
        refused: Texts that are bad, because another text has the same number.
    """
    encoded = cells.dictionary_encode()
    bare = trimmed(encoded.dictionary).dictionary_encode()  # two cells may differ only in spaces
    texts = bare.dictionary
    outer = np.append(_indices(bare), -1)  # the last place is that of a missing cell
    places = outer[_indices(encoded)]
    found = {
        "is missing": None,
        f"is longer than {LONGEST_ID} bytes": pc.greater(pc.binary_length(texts), LONGEST_ID),
        "has bytes that are not UTF-8": pc.match_substring(texts, NOT_UTF8),
        "has a control character": pc.match_substring_regex(texts, r"\p{Cc}"),
        "has the number of another id": pc.is_in(texts, value_set=pa.array(sorted(refused), texts.type)),
    }
    numbers = np.append(numbers_of(texts), 0)
    faults: dict[str, Mask] = {}
    for reason, mask in found.items():
        of_texts = np.append(np.zeros(len(texts), bool) if mask is None else np.asarray(mask).astype(bool), mask is None)
        if (rows := of_texts[places]).any():
            faults[reason] = rows
            numbers[of_texts] = 0
    return TextIds(numbers[places], faults, places, texts, numbers)


def _indices(encoded: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    """Return the place of each text in the dictionary, and -1 for missing ones."""
    found: npt.NDArray[np.int64] = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found
