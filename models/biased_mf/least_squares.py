"""Alternating least squares with a penalty for each rating (Zhou et al. 2008, ALS-WR), with a bias in each vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.recommender import IntArray

__all__ = ["solved"]

Floats = npt.NDArray[np.float64]
ROWS_AT_ONCE = 4096


def solved(offsets: IntArray, columns: IntArray, residuals: Floats, other: Floats, regularisation: float) -> Floats:
    """Return the vectors (R, 1 + width) of rows that fit their ratings best. The first number of each is its bias.

    Row r has the ratings offsets[r]:offsets[r + 1]. Without ratings, its vector is 0.

    Args:
        offsets: (R + 1,).
        columns: (N,) which row of `other` each rating belongs to.
        residuals: (N,) ratings without the mean and the other side's bias.
        other: (M, width) vectors of the other side, without their biases.
        regularisation: Penalty for each rating, above 0.
    """
    inputs = np.concatenate([np.ones((len(other), 1)), other], axis=1)
    found, size = np.zeros((len(offsets) - 1, inputs.shape[1])), inputs.shape[1]
    counts = np.diff(offsets)
    for start in range(0, len(found), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(found)))
        rows = rows[counts[rows] > 0]
        left, right = np.empty((len(rows), size, size)), np.empty((len(rows), size))
        for place, row in enumerate(rows):
            given = slice(offsets[row], offsets[row + 1])
            block = inputs[columns[given]]
            left[place] = block.T @ block + regularisation * counts[row] * np.eye(size)
            right[place] = block.T @ residuals[given]
        found[rows] = np.linalg.solve(left, right[..., None])[..., 0]
    return found
