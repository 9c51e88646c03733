"""A linear map from the features of an item to a vector, which is learnt together with the item's own vector."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DescribedItems"]

STD = 0.02


class DescribedItems(nn.Module):
    """Adds to the own vector of each item what its features map to.

    In each training step, a share of the items has no own vector, as a new item has none. So the map learns to stand for it (Volkovs
    et al., DropoutNet, NeurIPS 2017).
    """

    features: torch.Tensor

    def __init__(self, features: torch.Tensor, width: int, identity_dropout: float) -> None:
        """`features` (n_items + 1, F) are those of the items. Row 0 is zero."""
        super().__init__()
        self.identity_dropout = identity_dropout
        self.map = nn.Linear(features.shape[1], width, bias=False)
        nn.init.normal_(self.map.weight, std=STD)
        self.register_buffer("features", features, persistent=False)

    def forward(self, own: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n_items + 1, H) of the items, given their own ones."""
        if self.training and self.identity_dropout:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.identity_dropout)
        with torch.autocast(own.device.type, enabled=False):
            return own + self.of(self.features)

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, H) of items without a vector of their own."""
        vectors: torch.Tensor = self.map(features)
        return vectors
