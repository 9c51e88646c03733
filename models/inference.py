"""Models for serving: they are loaded from a version's files and read events one by one, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.kinds import kind_in, serving_class

__all__ = ["CATALOGUE_FILE", "SAMPLE_FILE", "Floats", "InferenceModel", "load_inference_model", "served_events"]

CATALOGUE_FILE = "catalogue.parquet"
SAMPLE_FILE = "sample_requests.json"
"""Requests with the answers of the model that was evaluated, which serving repeats before it uses a version."""

Floats = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class InferenceModel(Protocol):
    """A model as serving uses it. Items are indices from 0, in the order of the version's vocabulary."""

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

    def start(self, users: int) -> Floats: ...

    def advance(
        self, state: Floats, items: IntArray, intervals: IntArray, offsets: IntArray, user_ids: Sequence[int | None]
    ) -> Floats:
        """Process the events offsets[b]:offsets[b + 1] of each user b, and update `state` (B, state_size) in place.

        Args:
            state: States of the users, from `start` or an earlier call.
            items: (E,) indices from 0.
            intervals: (E,) seconds from each event to the next event or the request. Negative values count as 0.
            offsets: (B + 1,) where the events of each user start and end.
            user_ids: The users whose traits to use, or None for an unknown user.

        Returns:
            The hidden states (B, H), for `scores`.
        """
        ...

    def scores(self, hidden: Floats) -> Floats: ...


def served_events(count: int, block: int) -> int:
    """Return how many of a user's latest events a served state has read, after `count` events in total.

    A recurrence cannot forget its oldest event. After every `block` events, the state is therefore restarted from the latest
    `block` events.
    """
    return count if count <= 2 * block else count - block * ((count - 1) // block - 1)


def load_inference_model(folder: Path) -> InferenceModel:
    """Load the model from a version's folder.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind, or its files cannot be read.
    """
    loaded: InferenceModel = serving_class(kind_in(folder)).load(folder)
    return loaded
