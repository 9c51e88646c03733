"""The loss that a network's settings name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch

from models.losses.catalogue import catalogue_cross_entropy, gbce, sampled_softmax
from models.losses.soft_targets import SoftTargets
from models.windows import Batch

__all__ = ["LossName", "NextItemLoss"]

LossName = Literal["cross_entropy", "sampled_softmax", "gbce"]


class LossSettings(Protocol):
    """The settings of a network that name its loss."""

    @property
    def loss(self) -> LossName: ...
    @property
    def negatives(self) -> int: ...
    @property
    def calibration(self) -> float: ...
    @property
    def label_smoothing(self) -> float: ...


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
    soft: SoftTargets | None = None
    """Of cross_entropy: what trained networks predict. None: only the item that came next counts."""

    @classmethod
    def of(cls, settings: LossSettings, soft: SoftTargets | None = None) -> Self:
        """Return the loss that settings name."""
        return cls(settings.loss, settings.negatives, settings.calibration, settings.label_smoothing, soft)

    def __call__(self, hidden: torch.Tensor, weight: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return this replica's share of the step's mean loss, a scalar.

        Negatives are drawn uniformly from the catalogue by torch's generator of the device.

        Args:
            hidden: (T, H) after each event of the batch.
            weight: (n_items, H) of the catalogue.
            batch: Has the targets (T,).
        """
        if self.name == "cross_entropy":
            loss = catalogue_cross_entropy(hidden, weight, batch.targets, self.label_smoothing, batch.total, batch.weights)
            return loss if self.soft is None else loss + self.soft(hidden, weight, batch, self.label_smoothing)
        shape = (self.negatives,) if self.name == "sampled_softmax" else (len(hidden), self.negatives)
        negatives = torch.randint(len(weight), shape, device=hidden.device)
        if self.name == "sampled_softmax":
            return sampled_softmax(hidden, weight, batch.targets, negatives, batch.total, batch.weights)
        return gbce(hidden, weight, batch.targets, negatives, batch.total, self.calibration, batch.weights)
