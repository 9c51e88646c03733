"""The weights of EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equation 8).

    B = I - P diag(1 / diag(P)), where P is the inverse of X'X + regularisation * I

The Gram matrix X'X is filled in blocks from the sparse events, and replaced by its Cholesky factor and then by its inverse. So the
peak is one matrix of float64 and one of float32, 12 bytes for each pair of items, however many users there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from configs.errors import TrainingError
from models.cooccurrence import gram_rows

__all__ = ["item_weights"]

ROWS_AT_ONCE = 512


def item_weights(events: Any, regularisation: float) -> npt.NDArray[np.float32]:
    """Return the weights (n_items, n_items): row i is what an event of item i adds to the scores of all items. Its diagonal is 0.

    Args:
        events: Sparse matrix (users, n_items).
        regularisation: Added to the diagonal of the Gram matrix, above 0.

    Raises:
        TrainingError: The Gram matrix cannot be inverted in double precision.
    """
    size = events.shape[1]
    inverse = np.empty((size, size), order="F")
    for start, block in gram_rows(events):
        inverse[:, start : start + len(block)] = block.T
    inverse[np.diag_indices(size)] += regularisation
    inverse, failed = lapack.dpotrf(inverse, lower=1, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.dpotri(inverse, lower=1, overwrite_c=1)
    if failed:
        raise TrainingError(
            f"EASE cannot invert the Gram matrix of {size} items with the regularisation {regularisation:g}: raise "
            "models.ease.regularisation."
        )
    diagonal = np.diagonal(inverse).copy()
    weights = np.empty((size, size), np.float32)
    for start in range(0, size, ROWS_AT_ONCE):  # the solver fills the lower triangle only
        end = min(start + ROWS_AT_ONCE, size)
        weights[start:end, :start] = -inverse[start:end, :start] / diagonal[:start]
        within = np.tril(inverse[start:end, start:end])
        weights[start:end, start:end] = -(within + np.tril(within, -1).T) / diagonal[start:end]
        weights[start:end, end:] = -inverse[end:, start:end].T / diagonal[end:]
    np.fill_diagonal(weights, 0)
    return weights
