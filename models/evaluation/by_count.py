"""The ranks that targets have if items are ranked by their number of events. No scores are needed, so millions of events take seconds."""

from __future__ import annotations

import numpy as np

from models.evaluation.ranking import MISS, columns_of, metrics
from models.recommender import IntArray, Requests, Sequences

__all__ = ["popularity_level", "ranks_by_count"]


def popularity_level(train: Sequences, requests: Requests, catalogue: IntArray, *, mask_seen: bool) -> float | None:
    """Return NDCG@10 of a ranking by popularity, which a training that has collapsed does not exceed. None without requests."""
    if not len(requests):
        return None
    return metrics(ranks_by_count(train, requests, catalogue, mask_seen=mask_seen), (10,))["ndcg@10"]


def ranks_by_count(train: Sequences, requests: Requests, catalogue: IntArray, *, mask_seen: bool) -> IntArray:
    """Return the rank (R,) of each target among the items with the most train events, from 1.

    Ties count against the target. If it is not in the catalogue, or masked, its rank is `MISS`.
    """
    columns, known = columns_of(catalogue, train.item_ids)
    weights = None if train.weights is None else train.weights[known]
    counts = np.bincount(columns[known], weights, minlength=len(catalogue))
    columns, reachable = columns_of(catalogue, requests.targets)
    if not len(catalogue):
        return np.full(len(requests), MISS, dtype=np.int64)
    wanted = counts[columns]
    ranks = len(counts) - np.searchsorted(np.sort(counts), wanted, side="left")
    if mask_seen:
        seen, in_catalogue = columns_of(catalogue, requests.item_ids)
        pairs = np.unique(requests.row_of_event[in_catalogue] * len(catalogue) + seen[in_catalogue])
        rows, items = np.divmod(pairs, len(catalogue))
        ranks = ranks - np.bincount(rows[counts[items] >= wanted[rows]], minlength=len(requests))
        reachable = reachable & ~np.isin(np.arange(len(requests)) * len(catalogue) + columns, pairs)
    return np.where(reachable, ranks, MISS).astype(np.int64)
