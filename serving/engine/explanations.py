"""Explains each item of an answer by the event of the user's history that is most similar to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.engine.served_model import ServedModel

__all__ = ["Explanation", "explain"]

EVENTS = 1000


@dataclass(frozen=True)
class Explanation:
    """The event of the history whose item is most similar to a recommended one."""

    item_id: int | str  # as the team writes it
    title: str
    similarity: float  # cosine of the model's vectors


def explain(model: ServedModel, items: npt.NDArray[np.int64], history: npt.NDArray[np.int64]) -> Sequence[Explanation | None]:
    """Return an explanation for each item. Both arrays hold indices into the model's catalogue.

    The latest `EVENTS` events of the history are compared. There are no explanations without a history, or if the model has no
    item vectors.
    """
    if not len(history) or not model.directions.shape[1]:
        return [None] * len(items)
    history = np.unique(history[-EVENTS:])
    likeness = model.directions[items] @ model.directions[history].T
    nearest = likeness.argmax(axis=1)
    catalogue = model.catalogue
    return [
        Explanation(catalogue.id_of(item), catalogue.titles[item], float(likeness[row, place]))
        for row, place in enumerate(nearest)
        for item in [int(history[place])]
    ]
