"""What the gate decides on: a challenger, its baselines and the champion, ranked on the same requests."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.evaluation import FloatArray, Ranking, per_request
from tasks.evaluation import LoadCheck, RatingErrors, ServedWindow

__all__ = ["Challenger", "Champion", "GateInputs", "Opponent", "TrainingNoise", "UnrankedInputs", "ndcg"]


@dataclass(frozen=True, eq=False)
class Challenger:
    """The candidate for champion."""

    version: str
    ranking: Ranking
    beyond_accuracy: dict[str, float]
    load_check: LoadCheck
    collapsed: str = ""  # one sentence if its training never learnt more than popularity
    recorded: Ranking | None = None  # the ranks that were stored when it was evaluated
    served_window: ServedWindow | None = None
    ratings: RatingErrors = field(default_factory=RatingErrors)
    gini_of_events: float | None = None  # of as many random events of the train part as its lists have places


@dataclass(frozen=True, eq=False)
class Champion:
    """The model that is served now, ranked on the challenger's requests."""

    version: str
    number: int  # of its entry in the promotion log
    ranking: Ranking
    seen_share: float | None = 0.0  # of the target events, in training or selection; None if its dataset is no longer stored
    learnt: npt.NDArray[np.bool_] | None = None  # (R,) requests whose user and item it has learnt; None as above
    fresh: int | None = None  # requests whose target event its dataset does not contain; None as above


@dataclass(frozen=True, eq=False)
class Opponent:
    """An earlier champion that the challenger is compared with besides the current one."""

    version: str
    ranking: Ranking | None = None  # on the challenger's requests; None if it could not be ranked
    learnt: npt.NDArray[np.bool_] | None = None  # (R,) as a champion's
    fault: str = ""  # why it could not be ranked


@dataclass(frozen=True)
class TrainingNoise:
    """How much trainings of one recipe differ in quality."""

    relative: float  # standard deviation of NDCG@10 between trainings, as a share of NDCG@10
    retrainings: int = 0  # pairs of past retrainings that it was corrected by


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
    noise: TrainingNoise = field(default_factory=lambda: TrainingNoise(0.0))
    anchor: Opponent | None = None  # the champion of `promotion.anchor_days` ago, if there was another one
    margin_from: Opponent | None = None  # whose figure the margin of `non-inferior` counts from; None: the champion's
    collapses: tuple[str, ...] = ()  # what its training and those of the baselines told of a collapse
    decisions: int = 0  # versions that were made in the past year, without the challenger

    @property
    def fair(self) -> npt.NDArray[np.bool_]:
        """(R,) the requests on which challenger and champion are compared: those that the champion has not learnt."""
        learnt = self.champion.learnt if self.champion is not None else None
        return np.ones(len(self.challenger.ranking.ranks), dtype=bool) if learnt is None else ~learnt


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


def ndcg(ranking: Ranking) -> FloatArray:
    """(R,) NDCG@10 of each request."""
    return per_request(ranking.ranks, "ndcg", 10)
