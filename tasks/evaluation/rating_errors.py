"""RMSE and MAE of the ratings that a model predicts for the targets of requests, where users gave ratings and the model predicts any."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from configs.errors import TrainingError
from models.evaluation import rating_errors, rating_intervals
from models.recommender import Recommender, Requests

__all__ = ["RatingErrors", "errors_of_ratings"]

RESAMPLES = 2000  # no rule tests these intervals


@dataclass(frozen=True)
class RatingErrors:
    """The errors, each with its 95 % interval over requests. Both are empty if there is nothing to compare."""

    metrics: dict[str, float] = field(default_factory=dict)  # rmse and mae
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def errors_of_ratings(model: Recommender, requests: Requests, *, batch_size: int, seed: int) -> RatingErrors:
    """Predict the rating of each target, and compare it with what the user gave. The model does not see that rating.

    Args:
        model: Any trained model.
        requests: The requests, with the ratings of their targets if the events have ratings.
        batch_size: Requests at once.
        seed: Of the intervals.

    Raises:
        TrainingError: The predictions have another shape, or are not finite.
    """
    given = requests.target_ratings
    if given is None or not len(requests):
        return RatingErrors()
    hidden, found = replace(requests, target_ratings=None), []
    for start in range(0, len(requests), batch_size):
        batch = hidden.take(np.arange(start, min(start + batch_size, len(requests))))
        predicted = model.predict_ratings(batch)
        if predicted is None:
            return RatingErrors()
        if tuple(predicted.shape) != (len(batch),) or not bool(torch.isfinite(predicted).all()):
            raise TrainingError(
                f"The model {model.name} must predict one finite rating for each of {len(batch)} requests, but its answer has the shape "
                f"{tuple(predicted.shape)} or values that are not finite. `recsys model check KIND` finds such faults."
            )
        found.append(predicted.float().cpu().numpy())
    every = np.concatenate(found)
    return RatingErrors(rating_errors(every, given), rating_intervals(every, given, resamples=RESAMPLES, seed=seed))
