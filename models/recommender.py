"""The `Recommender` port, which every model implements, and the two data structures that cross it.

Raw item and user ids cross the port, never a model's own indices. Each model has its own vocabulary, so two models that were
trained on different dataset versions can be ranked on the same requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from configs.errors import CannotExportError

__all__ = ["EpochReport", "FitReport", "IntArray", "OnEpoch", "Program", "Recommender", "Requests", "Sequences", "WarmStart"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Events of many users, in the protocol's order, oldest first.

    Row u has the events `item_ids[offsets[u]:offsets[u + 1]]` of user `user_ids[u]`. `timestamps` are UTC seconds.
    """

    user_ids: IntArray  # (U,) ascending
    offsets: IntArray  # (U + 1,)
    item_ids: IntArray  # (N,)
    timestamps: IntArray  # (N,)
    ties_drawn: bool = field(default=False, kw_only=True)  # whether a row's events in the same second are in drawn order
    weights: npt.NDArray[np.float32] | None = field(
        default=None, kw_only=True
    )  # (N,) > 0, of training events; None: all count alike
    ratings: npt.NDArray[np.float32] | None = field(default=None, kw_only=True)  # (N,) what users gave; None: events have none

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.user_ids) + 1 or self.offsets[-1] != len(self.item_ids):
            raise ValueError("offsets do not span user_ids and item_ids")
        if len(self.timestamps) != len(self.item_ids):
            raise ValueError("timestamps and item_ids differ in length")
        if self.weights is not None and len(self.weights) != len(self.item_ids):
            raise ValueError("weights and item_ids differ in length")
        if self.ratings is not None and len(self.ratings) != len(self.item_ids):
            raise ValueError("ratings and item_ids differ in length")

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    @property
    def relative_weights(self) -> npt.NDArray[np.float32] | None:
        """The weights (N,), divided by their mean, so that a weighted loss has the scale of an unweighted one."""
        if self.weights is None:
            return None
        return self.weights / np.float32(self.weights.mean(dtype=np.float64) if len(self.weights) else 1)

    @property
    def row_of_event(self) -> IntArray:
        """The row (N,) of each event."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def of_rows(self, rows: IntArray) -> Sequences:
        """Return the sequences of these rows, in that order."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        index = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(starts, lengths)
        return Sequences(
            user_ids=self.user_ids[rows],
            offsets=offsets,
            item_ids=self.item_ids[index],
            timestamps=self.timestamps[index],
            ties_drawn=self.ties_drawn,
            weights=None if self.weights is None else self.weights[index],
            ratings=None if self.ratings is None else self.ratings[index],
        )


@dataclass(frozen=True, eq=False)
class Requests(Sequences):
    """Ranking requests: a user's events so far, the time of the request, and the item that followed.

    A user may appear in several rows. `request_times[r]` >= the last timestamp of row r; a row may be empty (cold start).
    """

    request_times: IntArray  # (R,) UTC seconds
    targets: IntArray  # (R,) raw item ids
    target_ratings: npt.NDArray[np.float32] | None = field(default=None, kw_only=True)  # (R,) what users gave; no model reads it

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.request_times) != len(self) or len(self.targets) != len(self):
            raise ValueError("request_times, targets and user_ids differ in length")
        if self.target_ratings is not None and len(self.target_ratings) != len(self):
            raise ValueError("target_ratings and user_ids differ in length")

    def take(self, rows: IntArray) -> Requests:
        """Return the requests at these rows, in that order."""
        taken = self.of_rows(rows)
        return Requests(
            user_ids=taken.user_ids,
            offsets=taken.offsets,
            item_ids=taken.item_ids,
            timestamps=taken.timestamps,
            ties_drawn=self.ties_drawn,
            request_times=self.request_times[rows],
            targets=self.targets[rows],
            ratings=taken.ratings,
            target_ratings=None if self.target_ratings is None else self.target_ratings[rows],
        )


@dataclass(frozen=True)
class EpochReport:
    """A model's report after an epoch."""

    epoch: int  # from 1
    max_epochs: int
    loss: float  # mean training loss
    valid: dict[str, float]  # metric name -> value on the valid requests; empty if not measured
    seconds: float
    best_epoch: int
    training_seconds: float = 0.0  # the part of `seconds` without the evaluation
    warning: str = ""  # one sentence if the training has collapsed

    def __post_init__(self) -> None:
        _make_plain(self)


@dataclass(frozen=True)
class TeacherEpoch(EpochReport):
    """The report of a network from which the model will learn, after one of that network's epochs."""

    teacher: int = 1  # its number, from 1
    teachers: int = 1


OnEpoch = Callable[[EpochReport], None]
"""Gets the report of each epoch: first those of the teachers, if the model has any, then the model's own."""


@dataclass(frozen=True)
class FitReport:
    """The result of a fit. It is stored with the version."""

    epochs: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    resumed_from: int | None = None  # epoch of the checkpoint that the fit resumed from
    parameters: int = 0
    device: str = "cpu"
    seconds: float = 0.0
    collapsed: str = ""  # one sentence if the kept weights come from a training that never learnt more than popularity

    def __post_init__(self) -> None:
        _make_plain(self)


def _make_plain(report: EpochReport | FitReport) -> None:
    """Turn the numbers of numpy and torch in a new report into Python's, which JSON can have."""
    for name, value in vars(report).items():
        if isinstance(value, dict):
            value = {key: _plain(number) for key, number in value.items()}
        object.__setattr__(report, name, _plain(value))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | torch.Tensor) else value


@dataclass(frozen=True, eq=False)
class Program:
    """A model's forward pass as a module of tensors, which `torch.export` can turn into a program that needs none of this code."""

    module: torch.nn.Module  # takes `inputs` in this order, and returns scores (B, n_items) in the order of the catalogue
    inputs: dict[str, torch.Tensor]  # an example of each input by name; the first dimension is the batch
    meaning: dict[str, str]  # what each input, and `scores`, contains
    users: IntArray | None = None  # raw ids of the users 1, 2, ... of an input that takes users by number


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Where a `fit` begins that does not begin from scratch."""

    parent: Recommender  # a trained model of the same kind
    rows: IntArray  # (R,) rows of the train part to learn, ascending: users with new events, and a sample of the others


class Recommender(ABC):
    """A model that ranks its whole catalogue for each request."""

    name: ClassVar[str]
    sequential: ClassVar[bool]  # reads the order of events; RecBole masks seen items only for models that do not
    products: ClassVar[bool] = False  # whether a score is the product of the user's vector and the item's
    catalogue: IntArray  # (n_items,) raw item ids, ascending; column j of `scores`

    @property
    def max_length(self) -> int | None:
        """The number of a request's latest known events that `scores` reads. None: it reads all of them."""
        return None

    def prepare(self) -> None:  # noqa: B027
        """Start the preparations for `fit` that need no data, in the background. Call it before the data is read."""

    def describe_users(self, users: pd.DataFrame) -> None:  # noqa: B027
        """Provide user attributes before `fit`: user_id, gender, age and occupation, each of which may be null.

        A model that does not use them ignores them.
        """

    def describe_items(self, items: pd.DataFrame) -> None:  # noqa: B027
        """Provide the dataset's table of items before `fit`: item_id, and any of title, year, genres and further attributes.

        A model that does not use them ignores them.
        """

    def begin_with(self, start: WarmStart) -> bool:
        """Begin the next `fit` with the weights of an earlier model, and return whether this kind and its settings allow that.

        Users and items that both models know keep their rows, and new ones get fresh rows. The vocabulary and the popularity of items
        are those of the whole train part, but only `start.rows` of it are learnt. A kind that does not override this is always
        trained from scratch.
        """
        return False

    @abstractmethod
    def fit(
        self,
        train: Sequences,
        valid: Requests,
        catalogue: IntArray,
        *,
        seed: int,
        mask_seen: bool,
        checkpoint_dir: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitReport:
        """Train on `train`. `valid` is only used to choose the epoch.

        If `train` has weights, an event counts as much as its weight says: `relative_weights` multiply the loss of each target.

        Resumes from `checkpoint_dir` if it holds a checkpoint of the same data, settings and seed.

        Raises:
            TrainingError: if the model cannot be trained, or training diverges.
        """

    @abstractmethod
    def scores(self, requests: Requests) -> torch.Tensor:
        """Return scores (R, n_items) as float32, on the CPU or the model's device. Higher is better.

        Items and users that the model does not know are ignored.
        """

    def predict_ratings(self, requests: Requests) -> torch.Tensor | None:
        """Return the rating (R,) that each user would give the target at the time of the request, as float32 on the CPU.

        It depends on the target, the user and the history with its `ratings`, if the request has them. Of a target that the model
        does not know, it predicts what it can.

        Returns:
            The ratings, or None if models of this kind, or with these settings, predict none.
        """
        return None

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, `config.json` and `vocabulary.parquet` into `folder`.

        `config.json` has the settings and anything else that `load` needs. `vocabulary.parquet` has the columns item_id and
        index. A model with users also writes `users.parquet`, with the columns user_id and index.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, device: str = "cpu") -> Recommender:
        """Load the model that `save` wrote. Never unpickles."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the hyperparameters as JSON-serialisable values."""

    # What can leave the product. A kind that does not have one of them keeps its default.

    def item_vectors(self) -> torch.Tensor:
        """Return the vectors (n_items, H) of the catalogue's items, as float32. Similar items have similar vectors.

        Raises:
            CannotExportError: if models of this kind have no vectors for items.
        """
        raise CannotExportError(f"A model of the kind {self.name} has no vectors for items.")

    def user_vectors(self, requests: Requests) -> torch.Tensor:
        """Return the vectors (R, H) of the users of requests, as float32. With `products`, they give the scores.

        The model reads all events of a request, or as many of the latest ones as it can.

        Raises:
            CannotExportError: if models of this kind have no vectors for users.
        """
        raise CannotExportError(f"A model of the kind {self.name} has no vectors for users.")

    def program(self) -> Program:
        """Return the forward pass as a module of tensors, in evaluation mode on the CPU.

        Raises:
            CannotExportError: if models of this kind cannot be exported.
        """
        raise CannotExportError(f"A model of the kind {self.name} cannot be exported as a program.")
