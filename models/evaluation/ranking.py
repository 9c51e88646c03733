"""Full ranking of each request's target against the whole catalogue, and the metrics of those ranks.

Requests are ranked in batches, so memory is batch x items. Ties count against the model: a constant score ranks the target
last. Ranks are kept per request because the gate's statistics need them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from configs.errors import TrainingError
from models.recommender import IntArray, Recommender, Requests, Sequences

__all__ = [
    "MISS",
    "Ranking",
    "columns_of",
    "head_items",
    "metrics",
    "per_request",
    "per_request_metrics",
    "rank_requests",
    "slices",
]

MISS = int(np.iinfo(np.int64).max)  # rank of a target that the model cannot recommend
NEW_USER_EVENTS = 10
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The rank of each request's target, and the recommended items."""

    user_ids: IntArray  # (R,)
    targets: IntArray  # (R,) raw item ids
    ranks: IntArray  # (R,) from 1; MISS if the target cannot be recommended
    catalogue: IntArray  # (n_items,)
    top: npt.NDArray[np.int32]  # (R, k) columns of the catalogue, best first; -1 after the last one that could be recommended

    @property
    def recommended(self) -> IntArray:
        """The number of times (n_items,) that each item is in a top k."""
        return np.bincount(self.top[self.top >= 0], minlength=len(self.catalogue)).astype(np.int64)


def rank_requests(
    model: Recommender, requests: Requests, catalogue: IntArray, *, mask_seen: bool, batch_size: int, top_k: int = 10
) -> Ranking:
    """Rank the targets of `requests` with `model` against `catalogue`.

    Catalogue items that the model does not know are never recommended, and are misses as targets. If scores are equal, any of
    the tied items may be in the top k.

    Args:
        catalogue: Raw item ids, ascending.
        mask_seen: Whether to exclude the items in a request's history.

    Raises:
        TrainingError: if a score is NaN or infinite, or the scores have another shape.
    """
    ranks = np.full(len(requests), MISS, dtype=np.int64)
    top = np.full((len(requests), min(top_k, len(catalogue))), -1, dtype=np.int32)
    column_of, known = columns_of(model.catalogue, catalogue)
    for start in range(0, len(requests), batch_size):
        rows = np.arange(start, min(start + batch_size, len(requests)))
        batch = requests.take(rows)
        scores = model.scores(batch)
        shape = (len(batch), len(model.catalogue))
        if tuple(getattr(scores, "shape", ())) != shape:
            raise TrainingError(
                f"The model {model.name} returned scores of the shape {tuple(getattr(scores, 'shape', ()))}, but it must be {shape}: a "
                "row for each request and a column for each item of its catalogue. `recsys model check KIND` finds such faults."
            )
        if not bool(torch.isfinite(scores).all()):
            bad = int(torch.nonzero(~torch.isfinite(scores))[0, 0])
            raise TrainingError(
                f"The scores of {model.name} for user {int(batch.user_ids[bad])} are not finite, so they cannot be ranked."
            )
        scores = _over_catalogue(scores, column_of, known)
        if mask_seen:
            seen_columns, seen_known = columns_of(catalogue, batch.item_ids)
            seen_rows = torch.from_numpy(batch.row_of_event[seen_known]).to(scores.device)
            scores[seen_rows, torch.from_numpy(seen_columns[seen_known]).to(scores.device)] = -torch.inf
        target_columns, target_known = columns_of(catalogue, batch.targets)
        target_scores = scores.gather(1, torch.from_numpy(target_columns)[:, None].to(scores.device))
        found = ((scores >= target_scores).sum(dim=1)).cpu().numpy()
        reachable = target_known & torch.isfinite(target_scores[:, 0]).cpu().numpy()
        ranks[rows] = np.where(reachable, found, MISS)
        best = scores.topk(top.shape[1], dim=1)
        top[rows] = best.indices.masked_fill(~torch.isfinite(best.values), -1).cpu().numpy()
    return Ranking(requests.user_ids, requests.targets, ranks, catalogue, top)


def columns_of(ids: IntArray, wanted: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Return the position of each wanted id in the ascending `ids`, and whether it is there."""
    if len(ids) == 0:
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return place.astype(np.int64), ids[place] == wanted


def _over_catalogue(scores: torch.Tensor, column_of: IntArray, known: npt.NDArray[np.bool_]) -> torch.Tensor:
    if known.all() and scores.shape[1] == len(column_of):
        return scores.clone()
    taken = scores[:, torch.from_numpy(column_of).to(scores.device)]
    taken[:, torch.from_numpy(~known).to(scores.device)] = -torch.inf
    return taken


def per_request(ranks: IntArray, metric: str, k: int) -> FloatArray:
    """Return the value (R,) of `hr`, `ndcg` or `mrr` at `k` for each request.

    A request has one target, so NDCG is 1 / log2(1 + rank).
    """
    hit = ranks <= k
    place = np.where(hit, ranks, 1).astype(np.float64)
    if metric == "hr":
        return hit.astype(np.float64)
    if metric == "ndcg":
        return np.where(hit, 1 / np.log2(1 + place), 0.0)
    if metric == "mrr":
        return np.where(hit, 1 / place, 0.0)
    raise ValueError(f"unknown metric {metric!r}: use hr, ndcg or mrr")


def metrics(ranks: IntArray, ks: tuple[int, ...]) -> dict[str, float]:
    """Return the means of `hr@k`, `ndcg@k` and `mrr@k` over all requests."""
    if len(ranks) == 0:
        raise ValueError("there are no ranks to average")
    return {name: float(values.mean()) for name, values in per_request_metrics(ranks, ks).items()}


def per_request_metrics(ranks: IntArray, ks: tuple[int, ...]) -> dict[str, FloatArray]:
    """Return `hr@k`, `ndcg@k` and `mrr@k` of each request, (R,) each."""
    return {f"{name}@{k}": per_request(ranks, name, k) for name in ("hr", "ndcg", "mrr") for k in ks}


def head_items(train: Sequences) -> IntArray:
    """Return the raw ids of the most popular items that make up half of the train events; the rest is the tail.

    If items have equally many events, the one with the larger id counts as more popular, as in RecBole's TailPercentage.
    """
    items, counts = np.unique(train.item_ids, return_counts=True)
    order = np.lexsort((-items, -counts))
    return items[order[: int(np.searchsorted(np.cumsum(counts[order]), counts.sum() / 2)) + 1]]


def slices(train: Sequences, requests: Requests) -> dict[str, npt.NDArray[np.bool_]]:
    """Return masks (R,) of the slices of requests that are reported and gated separately.

    New users have at most 10 events. Light and heavy users are the bottom and top quarter by events. Tail items are all items
    except the `head_items`. Recent users are the newest tenth of requests.
    """
    lengths = requests.lengths
    low, high = np.quantile(lengths, [0.25, 0.75]) if len(lengths) else (0, 0)
    in_head = np.isin(requests.targets, head_items(train))
    newest = np.quantile(requests.request_times, 0.9) if len(lengths) else 0
    return {
        "new users": lengths <= NEW_USER_EVENTS,
        "light users": lengths <= low,
        "heavy users": lengths >= high,
        "head items": in_head,
        "tail items": ~in_head,
        "recent users": requests.request_times >= newest,
    }
