"""What the gate decides on: a challenger, its baselines and the champion, ranked on the same requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation import Ranking
from tasks.evaluation import LoadCheck, ServedWindow

__all__ = ["Challenger", "Champion", "GateInputs", "UnrankedInputs"]


@dataclass(frozen=True, eq=False)
class Challenger:
    """The candidate for champion."""

    version: str
    ranking: Ranking
    beyond_accuracy: dict[str, float]
    load_check: LoadCheck
    nonfinite_steps: int = 0
    recorded: Ranking | None = None  # the ranks that were stored when it was evaluated
    served_window: ServedWindow | None = None


@dataclass(frozen=True, eq=False)
class Champion:
    """The model that is served now, ranked on the challenger's requests."""

    version: str
    number: int  # of its entry in the promotion log
    ranking: Ranking
    seen_share: float | None = 0.0  # of the target events, in training or selection; None if its dataset is no longer stored


@dataclass(frozen=True, eq=False)
class GateInputs:
    """Everything that a decision depends on, except the settings."""

    model_name: str
    dataset: str
    protocol: str
    challenger: Challenger
    baselines: dict[str, Ranking]
    champion: Champion | None
    slices: dict[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class UnrankedInputs:
    """What is known about a version without ranks: it could not be loaded, checked or ranked, or the champion could not be ranked."""

    model_name: str
    dataset: str
    protocol: str
    requests: int
    challenger: str
    champion: str | None
    champion_number: int
    load_check: LoadCheck
    champion_fault: str | None = None  # why the champion could not be ranked
