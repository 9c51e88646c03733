"""Which items are similar, and how much each event of a history counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from models.cooccurrence import gram_rows
from models.recommender import Sequences
from models.sequences import Vocabulary
from models.top_k import best

__all__ = ["nearest_items", "recency"]


def nearest_items(events: Any, neighbours: int, shrink: float) -> Any:
    """Return the most similar items of each item, as a csr matrix (n_items, n_items) of float32. An item is not its own neighbour.

    The similarity is the cosine of two columns with `shrink` added to its denominator. Of equally similar items, those with the lower
    index are kept. At most 512 rows are dense at once.

    Args:
        events: Sparse matrix (users, n_items).
        neighbours: Most items that are kept in a row.
        shrink: At least 0.
    """
    size = events.shape[1]
    length = np.sqrt(np.asarray(events.astype(np.float64).power(2).sum(axis=0)).ravel())
    values, columns, ends = list[npt.NDArray[np.float32]](), list[npt.NDArray[np.int64]](), [0]
    for start, together in gram_rows(events):
        denominator = np.outer(length[start : start + len(together)], length) + shrink
        similar = np.divide(together, denominator, out=np.zeros_like(together), where=together > 0).astype(np.float32)
        for row, found in enumerate(similar):
            found[start + row] = 0
            found[found <= 0] = -np.inf
            kept = np.sort(best(found, neighbours))
            values.append(found[kept])
            columns.append(kept)
            ends.append(ends[-1] + len(kept))
    content = (np.concatenate(values), np.concatenate(columns), np.array(ends, np.int64)) if values else ([], [], ends)
    return csr_array(content, shape=(size, size), dtype=np.float32)


def recency(rows: Sequences, items: Vocabulary, half_life_events: float, half_life_s: float) -> npt.NDArray[np.float32]:
    """Return how much each event (N,) counts: 1 for the newest known one of a row, and less for earlier ones.

    Args:
        rows: The events.
        items: The catalogue. Unknown items make no difference to the others.
        half_life_events: Number of later known events after which one counts half, or 0.
        half_life_s: Seconds before the newest known event at which one counts half, or 0.
    """
    known, row = items.indices(rows.item_ids) > 0, rows.row_of_event
    halvings = np.zeros(len(row))
    if half_life_events:
        counted = np.cumsum(known)
        later = np.append(0, counted)[rows.offsets[1:]][row] - counted
        halvings += later / half_life_events
    if half_life_s:
        newest = np.full(len(rows), np.iinfo(np.int64).min)
        np.maximum.at(newest, row[known], rows.timestamps[known])
        halvings += np.where(known, newest[row] - rows.timestamps, 0) / half_life_s
    # At 100 halvings an event counts nothing beside the newest one, but a float32 can still hold it.
    return np.exp2(-np.minimum(halvings, 100.0)).astype(np.float32)
