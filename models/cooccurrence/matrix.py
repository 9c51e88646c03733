"""The sparse matrix of users and items, and the products of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from models.recommender import Sequences
from models.sequences import Vocabulary

__all__ = ["catalogue_counts", "gram_rows", "item_matrix"]

Floats = npt.NDArray[np.float32]
ROWS_AT_ONCE = 512


def item_matrix(rows: Sequences, items: Vocabulary, values: Floats | None = None) -> Any:
    """Return the value of each item in each row, as a csr matrix (R, n_items) of float32. Unknown items are left out.

    Args:
        rows: The events.
        items: The catalogue.
        values: (N,) above 0, of the events. If a row has an item several times, the greatest value counts. None: 1 for each.
    """
    columns = items.indices(rows.item_ids) - 1
    known = columns >= 0
    keys = rows.row_of_event[known] * max(len(items), 1) + columns[known]
    if values is None:
        keys = np.unique(keys)
        data = np.ones(len(keys), np.float32)
    else:
        order = np.lexsort((values[known], keys))
        keys = keys[order]
        last = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
        keys, data = keys[last], values[known][order][last].astype(np.float32)
    row, column = np.divmod(keys, max(len(items), 1))
    return csr_array((data, (row, column)), shape=(len(rows), len(items)))


def gram_rows(events: Any) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield the product of the matrix's columns with each other in blocks of rows: the first row, and the block (B, n_items).

    The whole product of a large catalogue does not fit into memory, a block of 512 rows does.
    """
    events = events.astype(np.float64)
    transposed = events.T.tocsr()
    for start in range(0, events.shape[1], ROWS_AT_ONCE):
        yield start, (transposed[start : start + ROWS_AT_ONCE] @ events).toarray()


def catalogue_counts(train: Sequences, items: Vocabulary) -> npt.NDArray[np.float64]:
    """Return the number of train events (n_items,) of each item of the catalogue, or the sum of their relative weights."""
    columns = items.indices(train.item_ids)
    return np.bincount(columns, train.relative_weights, minlength=len(items) + 1)[1:].astype(np.float64)
