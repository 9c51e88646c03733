"""How much it matters that servers read more of a long history than the gate does.

The gate ranks a request from its latest L = `max_length` events, as in training. A server's state is a recurrence that advances by
one step for each event, and cannot forget one: it is restarted after every L events, and has read between L and 2 L of the latest.
To read exactly L, a server would have to read them all for each answer. For histories above L, the two are therefore compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.evaluation import MISS, Split, paired_test, per_request
from models.inference import InferenceModel, WindowModel, load_inference_model, served_events
from models.recommender import IntArray, Requests

__all__ = ["ServedWindow", "compare_windows", "scores_after", "served_events_of"]

FloatArray = npt.NDArray[np.float32]
MOST_REQUESTS, BATCH, TOP = 256, 16, 10


@dataclass(frozen=True)
class ServedWindow:
    """A model's top ten from the events that a server has read, compared with that from the events that the gate reads."""

    max_length: int
    above: int  # requests with more events
    requests: int  # of these, the ones that were measured
    overlap: float  # mean share of the top ten that both have in common
    identical: float  # share of requests with the same ten items
    judged: float  # NDCG@10 from the latest `max_length` events
    served: float  # NDCG@10 from the events that a server has read
    difference: float  # served - judged
    ci_low: float  # two-sided 95 % interval of the difference
    ci_high: float


def compare_windows(folder: Path, items: IntArray, parts: Split, *, resamples: int, seed: int) -> ServedWindow | None:
    """Compare the two on test requests above `max_length` events, with the model as it is served.

    Returns None if the model keeps no state, or no history is that long.

    Args:
        folder: Files of the version.
        items: Raw ids of its items, ascending.
        parts: The split with the test requests.
        resamples: Number of bootstrap resamples for the interval.
        seed: Seed of the sample of requests and of the bootstrap.
    """
    model = load_inference_model(folder)
    above = np.flatnonzero(parts.test.lengths > model.max_length)
    if not model.state_size or not len(above):
        return None
    drawn = np.sort(np.random.default_rng(seed).permutation(above)[:MOST_REQUESTS])
    tops: dict[str, list[IntArray]] = {"judged": [], "served": []}
    ranks: dict[str, list[IntArray]] = {"judged": [], "served": []}
    for begin in range(0, len(drawn), BATCH):
        batch = parts.test.take(drawn[begin : begin + BATCH])
        for name, read in (("judged", _judged_events), ("served", _served_events)):
            scores = _ranked(scores_after(model, batch, items, read(batch, items, model.max_length)), batch, items, parts)
            tops[name].append(np.argsort(-scores, axis=1, kind="stable")[:, :TOP])
            ranks[name].append(_ranks(scores, batch, items))
    judged, served = (np.concatenate(tops[name]) for name in ("judged", "served"))
    common = np.array([len(np.intersect1d(*pair)) for pair in zip(judged, served, strict=True)])
    ndcg = {name: per_request(np.concatenate(found), "ndcg", TOP) for name, found in ranks.items()}
    test = paired_test(ndcg["served"], ndcg["judged"], resamples=resamples, seed=seed)
    return ServedWindow(
        max_length=model.max_length,
        above=len(above),
        requests=len(drawn),
        overlap=float((common / judged.shape[1]).mean()),
        identical=float((common == judged.shape[1]).mean()),
        judged=test.mean_b,
        served=test.mean_a,
        difference=test.difference,
        ci_low=test.ci_low,
        ci_high=test.ci_high,
    )


def _judged_events(batch: Requests, items: IntArray, max_length: int) -> list[IntArray]:
    """Return the places of the events that the gate reads: the latest `max_length` known ones of each request."""
    known = np.isin(batch.item_ids, items)
    return [
        begin + np.flatnonzero(known[begin:end])[-max_length:]
        for begin, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    ]


def served_events_of(model: InferenceModel | WindowModel, batch: Requests, items: IntArray) -> list[IntArray]:
    """Return, for each request, the places of the events that a server reads.

    Args:
        model: The model as it is served.
        batch: Requests with all events of their users.
        items: Raw ids of the model's items, ascending.
    """
    read = _judged_events if isinstance(model, WindowModel) else _served_events
    return read(batch, items, model.max_length)


def _served_events(batch: Requests, items: IntArray, max_length: int) -> list[IntArray]:
    """Return the places of the events that a server's state has read: it counts unknown items too."""
    known = np.isin(batch.item_ids, items)
    begins = [
        int(end) - served_events(int(count), max_length) for end, count in zip(batch.offsets[1:], batch.lengths, strict=True)
    ]
    return [begin + np.flatnonzero(known[begin:end]) for begin, end in zip(begins, batch.offsets[1:], strict=True)]


def scores_after(model: InferenceModel | WindowModel, batch: Requests, items: IntArray, read: list[IntArray]) -> FloatArray:
    """Return the scores (B, n_items) of a served model, in one pass. Requests without events get its scores for new users.

    Args:
        model: The model as it is served.
        batch: The requests (B).
        items: Raw ids of the model's items, ascending.
        read: For each request, the places of the events that the model reads.
    """
    offsets = np.concatenate([[0], np.cumsum([len(places) for places in read])]).astype(np.int64)
    places = np.concatenate(read).astype(np.int64)
    times = batch.timestamps[places]
    following = np.append(times[1:], 0)
    some = np.diff(offsets) > 0
    following[offsets[1:][some] - 1] = batch.request_times[some]
    indices = np.searchsorted(items, batch.item_ids[places]).astype(np.int64)
    if isinstance(model, WindowModel):
        scores = model.window_scores(indices, times, offsets, batch.request_times, batch.user_ids.tolist())
        return np.where(some[:, None], scores, model.cold_scores[None])
    hidden = model.advance(model.start(len(batch)), indices, following - times, offsets, batch.user_ids.tolist(), following)
    return np.where(some[:, None], model.scores(hidden), model.cold_scores[None])


def _ranked(scores: FloatArray, batch: Requests, items: IntArray, parts: Split) -> FloatArray:
    """Return the scores with -inf for what is not recommended: items outside the catalogue, and those in the history."""
    scores[:, ~np.isin(items, parts.catalogue)] = -np.inf
    if parts.masks_seen(sequential=True):
        known = np.isin(batch.item_ids, items)
        scores[batch.row_of_event[known], np.searchsorted(items, batch.item_ids[known])] = -np.inf
    return scores


def _ranks(scores: FloatArray, batch: Requests, items: IntArray) -> IntArray:
    """Return the rank of each target, as `rank_requests` counts it."""
    columns = np.minimum(np.searchsorted(items, batch.targets), len(items) - 1)
    own = scores[np.arange(len(batch)), columns]
    reachable = (items[columns] == batch.targets) & np.isfinite(own)
    return np.where(reachable, (scores >= own[:, None]).sum(axis=1), MISS).astype(np.int64)
