"""Features of items: their genres, year, words of the title and categories, each hashed to one of a fixed number of columns.

A hash needs no vocabulary that would have to be stored, and a word that no item had before has a column too (Weinberger et al.,
arXiv 0902.2206).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from models.recommender import IntArray

__all__ = ["FEATURES", "item_features"]

FEATURES = 1024
WORD = re.compile(r"[^\W\d_]{2,}")  # of letters
Floats = npt.NDArray[np.float32]


def item_features(item_ids: IntArray, items: pd.DataFrame) -> Floats:
    """Return the features (n, FEATURES) of items. Each kind of feature that an item has makes up a vector of length 1.

    An item that the table does not describe has the mean features of the others.

    Args:
        item_ids: (n,) raw ids.
        items: The dataset's table of items: item_id, and any of title, year, genres and further attributes. Numbers other than the year
            are not read.
    """
    table = items.drop_duplicates(Columns.ITEM).set_index(Columns.ITEM).reindex(item_ids)
    found = np.zeros((len(item_ids), FEATURES), np.float32)
    for name in table.columns:
        cells = table[name]
        if name != Columns.YEAR and pd.api.types.is_numeric_dtype(cells):
            continue
        for row, cell in enumerate(cells.array):
            if not pd.isna(cell):
                columns = [_column(feature) for feature in _features(str(name), cell)]
                np.add.at(found[row], columns, np.float32(len(columns) ** -0.5) if columns else 0)
    described = found.any(axis=1)
    if described.any():
        found[~described] = found[described].mean(axis=0)
    return found


def _features(name: str, cell: object) -> Iterator[str]:
    if name == Columns.YEAR:
        year = int(float(str(cell)))
        yield from (f"{name} {year}", f"decade {year // 10}")
    elif name == Columns.GENRES:
        yield from (f"{name} {genre}" for genre in str(cell).split("|") if genre)
    elif name == Columns.TITLE:
        yield from (f"{name} {word}" for word in dict.fromkeys(WORD.findall(str(cell).lower())))
    elif name != Columns.EXTERNAL_ID:
        yield f"{name} {cell}"


def _column(feature: str) -> int:
    return int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little") % FEATURES
