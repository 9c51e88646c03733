"""Begin a training with the weights of an earlier model of the same kind, whose items and users may be others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import nn

from models.recommender import IntArray

__all__ = ["adopt_weights", "same_rows", "same_shapes"]

Rows = tuple[IntArray, IntArray]


def same_rows(ids: IntArray, earlier: IntArray, first: int = 1) -> Rows:
    """Return where the ids that two ascending vocabularies share are in the rows of each, as two arrays of equal length.

    Args:
        ids: The vocabulary of now.
        earlier: That of the earlier model.
        first: The row of the first id. Row 0 usually belongs to unknown ids.
    """
    _, own, theirs = np.intersect1d(ids, earlier, assume_unique=True, return_indices=True)
    return own.astype(np.int64) + first, theirs.astype(np.int64) + first


def same_shapes(network: nn.Module, earlier: Mapping[str, torch.Tensor], by_row: Collection[str]) -> bool:
    """Return whether a network can continue the weights of an earlier one.

    Args:
        network: The network.
        earlier: The state of the earlier one.
        by_row: Names of the weights that have a row for each item or user. Their numbers of rows may differ.
    """

    def shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
        return {name: weight.shape[1:] if name in by_row else weight.shape for name, weight in state.items()}

    return shapes(network.state_dict()) == shapes(earlier)


@torch.no_grad()
def adopt_weights(network: nn.Module, earlier: Mapping[str, torch.Tensor], rows: Mapping[str, Rows]) -> bool:
    """Copy the weights of an earlier network, and return whether they fit. If they do not, nothing is copied.

    Args:
        network: The untrained network.
        earlier: The state of the earlier one.
        rows: For each weight with a row for each item or user: its rows, and those of the earlier weight that they continue. Its other
            rows stay as they are.
    """
    if not same_shapes(network, earlier, rows):
        return False
    for name, weight in network.state_dict().items():
        given = earlier[name].to(weight)
        if name in rows:
            to, of = (torch.from_numpy(each).to(weight.device) for each in rows[name])
            weight[to] = given[of]
        else:
            weight.copy_(given)
    return True
