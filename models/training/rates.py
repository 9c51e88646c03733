"""The learning rate of each step: a warm-up, and then a constant rate or its decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Rates"]


@dataclass(frozen=True)
class Rates:
    """The learning rate over the planned epochs.

    It depends on the epoch, the step and the number of steps alone, so a training that resumes continues it exactly.
    """

    peak: float
    epochs: int
    """Number of planned epochs."""
    warm_up: float = 0.0
    """Share of the planned epochs in which the rate rises from 0 to `peak`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What follows the warm-up: the same rate, or half a cosine down to 0 at the end of the last planned epoch."""

    @property
    def vary(self) -> bool:
        """Whether any step has another rate than `peak`."""
        return self.schedule != "constant" or self.warm_up > 0

    def of_epoch(self, epoch: int, steps: int) -> npt.NDArray[np.float64]:
        """Return the rates (steps,) of an epoch, which is counted from 1."""
        done = (epoch - 1 + (np.arange(steps) + 0.5) / max(steps, 1)) / self.epochs
        rates = np.full(steps, self.peak)
        if self.schedule == "cosine":
            decayed = np.clip((done - self.warm_up) / (1 - self.warm_up), 0, 1)
            rates *= 0.5 + 0.5 * np.cos(np.pi * decayed)
        return np.where(done < self.warm_up, self.peak * done / max(self.warm_up, 1e-12), rates)
