"""The checks of a trained model on invented requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from configs.errors import CannotExportError
from models.recommender import IntArray, Recommender, Requests
from tasks.conformance.findings import Broken, Report
from tasks.conformance.invented import NOBODY, UNKNOWN, frozen, with_histories

__all__ = ["TOLERANCE", "check_answers", "differ", "scored"]

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-4  # relative, as in the load check: another batch or machine may sum in another order
KEEP = "Make `scores` a function of the request alone"


def check_answers(model: Recommender, requests: Requests, report: Report) -> bool:
    """Check what `scores` returns for these requests, of which each has some events. Return False if it is of no use at all."""
    frozen(requests)
    first: list[FloatArray] = []
    with report.check("Scores are float32 of the shape (requests, items), and finite"):
        first.append(scored(model, requests))
    if not first:
        return False
    scores = first[0]

    def same(what: str, requests: Requests, expected: FloatArray, wrong: str) -> None:
        with report.check(what):
            found = differ(scored(model, requests), expected)
            if found:
                raise Broken(f"{wrong} (by {found:.2g}).")

    same(
        "The same requests get the same scores again",
        requests,
        scores,
        f"Two calls with the same requests gave different scores. {KEEP}: switch off dropout with `eval()`, and draw nothing at random",
    )
    alone = np.arange(min(5, len(requests)))
    with report.check("A request gets the same scores alone as among others"):
        found = max(differ(scored(model, requests.take(np.array([row]))), scores[row : row + 1]) for row in alone)
        if found:
            raise Broken(
                f"A request alone gets other scores than the same request among others (by {found:.2g}). {KEEP}: look at padding, and "
                "at layers that mix the rows of a batch."
            )
    same(
        "Scores do not depend on the target",
        replace(requests, targets=np.roll(requests.targets, 1)),
        scores,
        "Other targets change the scores, but the target is what the model should predict. Do not read `requests.targets`",
    )
    with report.check("A request without events gets finite scores"):
        scored(model, with_histories(requests, [_of(requests, 0)] + [_nothing()] * (len(requests) - 1)))
        scored(model, with_histories(requests, [_nothing()] * len(requests)))
    same(
        "Unknown items in a history are ignored",
        with_histories(requests, [_with_unknown(*_of(requests, row)) for row in range(len(requests))]),
        scores,
        "Events of items outside the catalogue change the scores. Leave them out: `models.sequences.histories` does",
    )
    with report.check("An unknown user gets finite scores"):
        for user in (np.int64(5), NOBODY):
            scored(model, replace(requests, user_ids=np.full(len(requests), user, np.int64)))
    with report.check("Its item vectors, if it has any, are finite, and one for each item"), suppress(CannotExportError):
        _check_vectors(model)
    with report.check("Its ratings, if it predicts any, are finite, one for each request, and the same again"):
        _check_ratings(model, requests)
    if model.max_length is not None:
        most = model.max_length
        with report.check(f"Scores depend on the latest {most} known events"):
            if most < 1:
                raise Broken(f"`max_length` is {most}: give a number of at least 1, or None if the model reads all events.")
            twice = [_twice(*_of(requests, row), most) for row in range(len(requests))]
            latest = [(items[-most:], times[-most:]) for items, times in twice]
            found = differ(scored(model, with_histories(requests, twice)), scored(model, with_histories(requests, latest)))
            if found:
                raise Broken(
                    f"Events before the latest {most} change the scores (by {found:.2g}), so a server would answer differently. Make "
                    "`max_length` the number of events that `scores` reads, or None if it reads all."
                )
    return True


def scored(model: Recommender, requests: Requests) -> FloatArray:
    """Return the scores (R, n_items).

    Raises:
        Broken: They have another shape or type, or are not finite.
    """
    found = model.scores(requests)
    shape = (len(requests), len(model.catalogue))
    if not isinstance(found, torch.Tensor):
        raise Broken(f"`scores` returned {type(found).__name__}: return a torch.Tensor.")
    if tuple(found.shape) != shape or found.dtype != torch.float32:
        raise Broken(
            f"`scores` returned {str(found.dtype).removeprefix('torch.')} of the shape {tuple(found.shape)}, but it must be float32 of "
            f"the shape {shape}: a row for each request and a column for each item of the catalogue."
        )
    scores: FloatArray = found.detach().cpu().double().numpy()
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise Broken(f"{wrong} of {scores.size} scores are not finite: give each item a finite number.")
    return scores


def _check_vectors(model: Recommender) -> None:
    found = model.item_vectors()
    if not isinstance(found, torch.Tensor):
        raise Broken(f"`item_vectors` returned {type(found).__name__}: return a torch.Tensor.")
    if found.ndim != 2 or len(found) != len(model.catalogue):
        raise Broken(
            f"`item_vectors` returned the shape {tuple(found.shape)}, but it must have a row for each of the {len(model.catalogue)} items "
            "of the catalogue: leave out the row for padding."
        )
    if not bool(torch.isfinite(found).all()):
        raise Broken("`item_vectors` returned numbers that are not finite: give each item a finite vector.")


def _check_ratings(model: Recommender, requests: Requests) -> None:
    asked = replace(requests, target_ratings=None)
    found, again = model.predict_ratings(asked), model.predict_ratings(asked)
    if found is None or again is None:
        return
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != (len(requests),) or found.dtype != torch.float32:
        shape = f"{found.dtype} of {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise Broken(
            f"`predict_ratings` returned {shape}: return a float32 tensor with one rating for each of {len(requests)} requests."
        )
    if not bool(torch.isfinite(found).all()):
        raise Broken("`predict_ratings` returned numbers that are not finite: predict the mean rating where nothing is known.")
    if differ(again.double().numpy(), found.double().numpy()):
        raise Broken(f"Two calls of `predict_ratings` with the same requests gave different ratings. {KEEP}.")


def differ(found: FloatArray, expected: FloatArray) -> float:
    """Return the greatest relative difference, or 0 within the tolerance."""
    difference = float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1.0), initial=0.0))
    return difference if difference > TOLERANCE else 0.0


Events = tuple[IntArray, IntArray]
Change = Callable[[IntArray, IntArray], Events]


def _nothing() -> Events:
    return np.empty(0, np.int64), np.empty(0, np.int64)


def _of(requests: Requests, row: int) -> Events:
    events = slice(requests.offsets[row], requests.offsets[row + 1])
    return requests.item_ids[events], requests.timestamps[events]


def _with_unknown(items: IntArray, times: IntArray) -> Events:
    """Put an unknown item after each event, at the same time."""
    return np.stack([items, np.full_like(items, UNKNOWN)], axis=1).ravel(), np.repeat(times, 2)


def _twice(items: IntArray, times: IntArray, most: int) -> Events:
    """Repeat the events in reverse before the first one, so that there are more than `most`."""
    again = max(1, -(-(most + 1) // max(len(items), 1)))
    earlier = np.tile(items[::-1], again)
    return np.append(earlier, items), np.append(np.full(len(earlier), times[0]), times)
