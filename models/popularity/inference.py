"""Popularity as serving uses it: the stored counts, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from configs.errors import VersionCorruptError

if TYPE_CHECKING:
    from models.inference import Floats

__all__ = ["PopularityCounts"]

IntArray = npt.NDArray[np.int64]


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
        self,
        state: Floats,
        items: IntArray,
        intervals: IntArray,
        offsets: IntArray,
        user_ids: Sequence[int | None],
        until: IntArray,
    ) -> Floats:
        return np.empty((len(state), 0), np.float32)

    def scores(self, hidden: Floats) -> Floats:
        return np.repeat(self.cold_scores[None], len(hidden), axis=0)
