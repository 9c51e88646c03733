"""Models for serving, as they are loaded from a version's files: those that keep a state, and those that read a window again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from configs.errors import VersionCorruptError
from models.kinds import kind_in, serving_class

__all__ = [
    "CATALOGUE_FILE",
    "REFIT_FILE",
    "SAMPLE_FILE",
    "Floats",
    "InferenceModel",
    "ProductModel",
    "ServingModel",
    "WindowModel",
    "load_inference_model",
    "served_events",
]

CATALOGUE_FILE = "catalogue.parquet"
SAMPLE_FILE = "sample_requests.json"
"""Requests with the answers of the model that was evaluated, which serving repeats before it uses a version."""
REFIT_FILE = "refit.json"
"""The record of a training on all events, beside the weights that are served because of it."""

Floats = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class ServingModel(Protocol):
    """What serving needs of every model. Items are indices from 0, in the order of the version's vocabulary."""

    kind: str
    state_size: int
    """Number of float32 values in a user's state."""
    cold_scores: Floats
    """Scores (n_items,) for a user without known events."""

    @property
    def max_length(self) -> int: ...

    @property
    def item_vectors(self) -> Floats:
        """Item vectors (n_items, H): similar items have similar vectors. H may be 0."""

    @property
    def half_precision(self) -> bool:
        """Whether training computed its sample answers in bfloat16."""


class InferenceModel(ServingModel, Protocol):
    """A model that reads a user's events one by one, and keeps a state between them."""

    def start(self, users: int) -> Floats: ...

    def advance(
        self,
        state: Floats,
        items: IntArray,
        intervals: IntArray,
        offsets: IntArray,
        user_ids: Sequence[int | None],
        until: IntArray,
    ) -> Floats:
        """Process the events offsets[b]:offsets[b + 1] of each user b, and update `state` (B, state_size) in place.

        Args:
            state: States of the users, from `start` or an earlier call.
            items: (E,) indices from 0.
            intervals: (E,) seconds from each event to the next event or the request. Negative values count as 0.
            offsets: (B + 1,) where the events of each user start and end.
            user_ids: The users whose traits to use, or None for an unknown user.
            until: (E,) UTC seconds of the next event or the request, for models that read the calendar.

        Returns:
            The hidden states (B, H), for `scores`.
        """
        ...

    def scores(self, hidden: Floats) -> Floats: ...


@runtime_checkable
class ProductModel(Protocol):
    """An `InferenceModel` whose scores are the inner products of a hidden state with `item_vectors`."""

    def scores_of(self, hidden: Floats, items: IntArray | None) -> Floats:
        """Return the scores (m,) of some items, or with None of all (n_items,), for one hidden state (H,).

        They are the same to the last bit as the scores of all items.
        """


@runtime_checkable
class WindowModel(ServingModel, Protocol):
    """A model that reads a user's latest `max_length` events again for each request. It keeps no state."""

    def window_scores(
        self, items: IntArray, times: IntArray, offsets: IntArray, now: IntArray, user_ids: Sequence[int | None]
    ) -> Floats:
        """Return the scores (B, n_items) of B requests. Request b has the events offsets[b]:offsets[b + 1].

        Args:
            items: (E,) indices from 0.
            times: (E,) UTC seconds of the events.
            offsets: (B + 1,) where each request's events begin.
            now: (B,) UTC seconds of the requests.
            user_ids: (B,) raw ids, or None for an unknown user.
        """


def served_events(count: int, block: int) -> int:
    """Return how many of a user's latest events a served state has read, after `count` events in total.

    A recurrence cannot forget its oldest event. After every `block` events, the state is therefore restarted from the latest
    `block` events.
    """
    return count if count <= 2 * block else count - block * ((count - 1) // block - 1)


def load_inference_model(folder: Path) -> InferenceModel | WindowModel:
    """Load the model from a version's folder.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind, its files cannot be read, or its item vectors are
            of no use.
    """
    loaded: InferenceModel | WindowModel = serving_class(kind_in(folder)).load(folder)
    check_item_vectors(loaded.item_vectors, len(loaded.cold_scores), loaded.kind)
    return loaded


def check_item_vectors(vectors: Floats, items: int, kind: str) -> None:
    """Check that each item has a vector: with a row too many, items would be similar to the neighbours of those that they resemble.

    Raises:
        VersionCorruptError: They have another shape, or are not finite.
    """
    if vectors.ndim != 2 or len(vectors) != items or not np.isfinite(vectors).all():
        fault = "are not finite" if vectors.ndim == 2 and len(vectors) == items else f"have the shape {vectors.shape}"
        raise VersionCorruptError(
            f"The item vectors of the model {kind} {fault}. `item_vectors` must return one finite vector for each of the {items} items "
            "of the catalogue, without a row for padding. Mend it and train again."
        )
