"""The loss that a network's settings name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from models.losses.catalogue import catalogue_cross_entropy, gbce, sampled_softmax
from models.windows import Batch

__all__ = ["LossName", "NextItemLoss"]

LossName = Literal["cross_entropy", "sampled_softmax", "gbce"]


@dataclass(frozen=True)
class NextItemLoss:
    """One of the losses, with its options."""

    name: LossName
    negatives: int
    """Sampled negatives: per step for sampled_softmax, per event for gbce."""
    calibration: float
    """The t of gbce."""
    label_smoothing: float
    """Of cross_entropy."""

    def __call__(self, hidden: torch.Tensor, weight: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return this replica's share of the step's mean loss, a scalar.

        Negatives are drawn uniformly from the catalogue by torch's generator of the device.

        Args:
            hidden: (T, H) after each event of the batch.
            weight: (n_items, H) of the catalogue.
            batch: Has the targets (T,).
        """
        if self.name == "cross_entropy":
            return catalogue_cross_entropy(hidden, weight, batch.targets, self.label_smoothing, batch.total, batch.weights)
        shape = (self.negatives,) if self.name == "sampled_softmax" else (len(hidden), self.negatives)
        negatives = torch.randint(len(weight), shape, device=hidden.device)
        if self.name == "sampled_softmax":
            return sampled_softmax(hidden, weight, batch.targets, negatives, batch.total, batch.weights)
        return gbce(hidden, weight, batch.targets, negatives, batch.total, self.calibration, batch.weights)
