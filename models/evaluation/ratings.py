"""How far predicted ratings lie from those that users gave."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.evaluation.ranking import FloatArray
from models.evaluation.significance import confidence_intervals

__all__ = ["rating_errors", "rating_intervals"]

Ratings = npt.NDArray[np.float32]


def rating_errors(predicted: Ratings, given: Ratings) -> dict[str, float]:
    """Return `rmse` (root of the mean squared error) and `mae` (mean absolute error) of ratings (R,).

    Raises:
        ValueError: There are no ratings, or the arrays differ in length.
    """
    difference = _difference(predicted, given)
    return {"rmse": float(np.sqrt(np.mean(difference**2))), "mae": float(np.mean(np.abs(difference)))}


def rating_intervals(predicted: Ratings, given: Ratings, *, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap intervals of `rating_errors` over requests."""
    difference = _difference(predicted, given)
    columns: dict[str, FloatArray] = {"rmse": difference**2, "mae": np.abs(difference)}
    found = confidence_intervals(columns, resamples=resamples, seed=seed)
    low, high = found["rmse"]
    return {"rmse": (float(np.sqrt(low)), float(np.sqrt(high))), "mae": found["mae"]}


def _difference(predicted: Ratings, given: Ratings) -> FloatArray:
    if len(predicted) != len(given) or not len(given):
        raise ValueError(f"ratings of the same length are needed, got {len(predicted)} and {len(given)}")
    return predicted.astype(np.float64) - given.astype(np.float64)
