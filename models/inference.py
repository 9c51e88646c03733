"""Models for serving: they are loaded from a version's files and read events one by one, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from configs.errors import VersionCorruptError
from models.kinds import kind_in

if TYPE_CHECKING:
    from models.ss4rec.kernels import Floats

__all__ = ["CATALOGUE_FILE", "SAMPLE_FILE", "InferenceModel", "PopularityCounts", "load_inference_model", "served_events"]

CATALOGUE_FILE = "catalogue.parquet"
SAMPLE_FILE = "sample_requests.json"
"""Requests with the answers of the model that was evaluated, which serving repeats before it uses a version."""

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
        """See `RecurrentSS4Rec.advance`."""

    def scores(self, hidden: Floats) -> Floats: ...


class PopularityCounts:
    """The baseline: the event counts of the items, the same for every user."""

    kind = "popularity"
    state_size = 0
    max_length = 2
    half_precision = False

    def __init__(self, counts: Floats) -> None:
        self.cold_scores = counts
        self.item_vectors = np.empty((len(counts), 0), np.float32)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the counts from a version's folder.

        Raises:
            VersionCorruptError: if they cannot be read.
        """
        try:
            return cls(load_file(folder / "model.safetensors")["counts"].astype(np.float32))
        except (OSError, KeyError, SafetensorError) as error:
            raise VersionCorruptError(f"{folder} does not contain readable popularity counts ({error}); train again.") from error

    def start(self, users: int) -> Floats:
        return np.empty((users, 0), np.float32)

    def advance(
        self, state: Floats, items: IntArray, intervals: IntArray, offsets: IntArray, user_ids: Sequence[int | None]
    ) -> Floats:
        return np.empty((len(state), 0), np.float32)

    def scores(self, hidden: Floats) -> Floats:
        return np.repeat(self.cold_scores[None], len(hidden), axis=0)


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
    loaded: InferenceModel = kind_in(folder).import_serving_model().load(folder)
    return loaded
