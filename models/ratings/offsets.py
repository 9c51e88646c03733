"""How far the ratings of an item, and of a user, lie from the mean (Koren 2010, doi 10.1145/1644873.1644874, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from configs.errors import TrainingError
from models.recommender import Sequences
from models.sequences import Vocabulary

__all__ = ["RatingOffsets", "given_ratings"]

Floats = npt.NDArray[np.float64]
ITEM_SHRINK, USER_SHRINK = 25.0, 10.0  # Koren's: ratings of the mean that are added to those of an item, and of a user


@dataclass(frozen=True, eq=False)
class RatingOffsets:
    """The mean rating, and the offsets of items. The offset of a user comes from the ratings of a history."""

    mean: float
    lowest: float
    highest: float
    sums: Floats  # (n_items + 1,) of the differences from the mean; index 0 is an unknown item
    counts: Floats  # (n_items + 1,) ratings

    @classmethod
    def of(cls, train: Sequences, items: Vocabulary, kind: str) -> RatingOffsets:
        """Return the offsets of the train part.

        Raises:
            TrainingError: The events have no ratings. The message names the kind.
        """
        ratings, columns = given_ratings(train, kind), items.indices(train.item_ids)
        mean = float(ratings.mean())
        sums = np.bincount(columns, ratings - mean, minlength=len(items) + 1).astype(np.float64)
        counts = np.bincount(columns, minlength=len(items) + 1).astype(np.float64)
        sums[0] = counts[0] = 0
        return cls(mean, float(ratings.min()), float(ratings.max()), sums, counts)

    @property
    def of_items(self) -> Floats:
        """The offset (n_items + 1,) of each item, shrunk towards 0 where there are few ratings."""
        return self.sums / (self.counts + ITEM_SHRINK)

    def of_events(self, columns: npt.NDArray[np.int64], ratings: Floats) -> Floats:
        """Return the offset (N,) of the item of each train event, without its own rating, which a prediction must not know."""
        others = np.maximum(self.counts[columns] - 1, 0)
        known = columns > 0
        return np.where(known, (self.sums[columns] - (ratings - self.mean)) / (others + ITEM_SHRINK), 0.0)

    def of_users(self, rows: Sequences, items: Vocabulary) -> Floats:
        """Return the offset (R,) of each row's user, by all ratings of the row. Without ratings it is 0."""
        sums, counts = self._of_row(rows, items)
        return _shrunk(sums, counts, rows.offsets[1:], rows.offsets[:-1])

    def before_events(self, rows: Sequences, items: Vocabulary) -> Floats:
        """Return the offset (N,) of the user at each event, by the ratings before it."""
        sums, counts = self._of_row(rows, items)
        return _shrunk(sums, counts, np.arange(len(rows.item_ids)), rows.offsets[:-1][rows.row_of_event])

    def clipped(self, predicted: Floats) -> npt.NDArray[np.float32]:
        """Return predictions within the range of the ratings that were given."""
        return np.clip(predicted, self.lowest, self.highest).astype(np.float32)

    def _of_row(self, rows: Sequences, items: Vocabulary) -> tuple[Floats, Floats]:
        """Return the running sums (N + 1,) of what users gave beyond the mean and the item, and of how often."""
        if rows.ratings is None:
            return np.zeros(len(rows.item_ids) + 1), np.zeros(len(rows.item_ids) + 1)
        columns = items.indices(rows.item_ids)
        known = columns > 0
        beyond = np.where(known, rows.ratings.astype(np.float64) - self.mean - self.of_items[columns], 0.0)
        return np.append(0.0, np.cumsum(beyond)), np.append(0.0, np.cumsum(known.astype(np.float64)))


def _shrunk(sums: Floats, counts: Floats, ends: npt.NDArray[np.int64], begins: npt.NDArray[np.int64]) -> Floats:
    """Return the mean of the events begins:ends, shrunk towards 0."""
    offsets: Floats = (sums[ends] - sums[begins]) / (counts[ends] - counts[begins] + USER_SHRINK)
    return offsets


def given_ratings(train: Sequences, kind: str) -> Floats:
    """Return the ratings (N,) of the train events.

    Raises:
        TrainingError: The events have none, or some are not numbers.
    """
    if train.ratings is None or not len(train.ratings):
        raise TrainingError(
            f"The model {kind} should learn ratings, but the events have none (data.feedback is implicit): train another kind, or turn "
            "off its rating_head."
        )
    ratings = train.ratings.astype(np.float64)
    if not np.isfinite(ratings).all():
        raise TrainingError(
            f"{int((~np.isfinite(ratings)).sum())} of {len(ratings)} ratings are missing or not finite: correct them."
        )
    return ratings
