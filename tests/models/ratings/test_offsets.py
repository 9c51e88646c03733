from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from configs.errors import TrainingError
from models.ratings import RatingOffsets
from models.recommender import Sequences
from models.sequences import Vocabulary

TRAIN = Sequences(
    np.array([1, 2]), np.array([0, 3, 5]), np.array([10, 20, 99, 10, 20]), np.arange(5),
    ratings=np.array([5, 3, 1, 4, 2], np.float32),
)  # fmt: skip
ITEMS = Vocabulary(np.array([10, 20]))


def test_offsets_are_those_of_the_formula_by_hand() -> None:
    found = RatingOffsets.of(TRAIN, ITEMS, "mf")
    assert (found.mean, found.lowest, found.highest) == (3.0, 1.0, 5.0)
    np.testing.assert_allclose(found.of_items, [0, (2 + 1) / 27, (0 - 1) / 27])
    first, second = 3 / 27, -1 / 27
    np.testing.assert_allclose(found.of_users(TRAIN, ITEMS), [(2 - first + 0 - second) / 12, (1 - first - 1 - second) / 12])


def test_an_event_is_predicted_without_its_own_rating_and_without_later_ones() -> None:
    found, columns = RatingOffsets.of(TRAIN, ITEMS, "mf"), ITEMS.indices(TRAIN.item_ids)
    assert TRAIN.ratings is not None
    np.testing.assert_allclose(found.of_events(columns, TRAIN.ratings.astype(float)), [1 / 26, -1 / 26, 0, 2 / 26, 0])
    before = found.before_events(TRAIN, ITEMS)
    np.testing.assert_allclose(before[[0, 3]], 0)
    np.testing.assert_allclose(before[[1, 4]], [(2 - 3 / 27) / 11, (1 - 3 / 27) / 11])
    later = replace(TRAIN, ratings=np.array([5, 3, 1, 4, 5], np.float32))
    np.testing.assert_allclose(found.before_events(later, ITEMS), before)


def test_rows_without_ratings_have_no_offset_and_training_without_them_is_refused() -> None:
    bare = replace(TRAIN, ratings=None)
    assert RatingOffsets.of(TRAIN, ITEMS, "mf").of_users(bare, ITEMS).tolist() == [0, 0]
    with pytest.raises(TrainingError, match=r"^The model mf should learn ratings, but the events have none \(data\.feedback"):
        RatingOffsets.of(bare, ITEMS, "mf")
    with pytest.raises(TrainingError, match="1 of 5 ratings are missing"):
        RatingOffsets.of(replace(TRAIN, ratings=np.array([5, np.nan, 1, 4, 2], np.float32)), ITEMS, "mf")
