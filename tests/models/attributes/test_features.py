"""Features of items: what they are made of, and what an item without a description has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.attributes import FEATURES, item_features

ITEMS = pd.DataFrame(
    {
        "item_id": [3, 1, 2, 8],
        "title": ["The Long Night", "Night", None, "Amélie 2"],
        "year": pd.array([1994, 1994, None, 2001], dtype="Int64"),
        "genres": ["Drama|War", "Drama", None, ""],
        "brand": pd.array(["Acme", None, None, None], dtype="string"),
        "price": [1.0, 2.0, 3.0, 4.0],
    }
)


def test_each_kind_of_feature_has_the_same_weight_and_prices_are_not_read() -> None:
    found = item_features(np.array([1, 3]), ITEMS)
    assert found.shape == (2, FEATURES) and found.dtype == np.float32
    assert np.square(found).sum(axis=1) == pytest.approx([3, 4], rel=0.3)  # a column may stand for two features
    assert np.array_equal(found, item_features(np.array([1, 3]), ITEMS.assign(price=0.0)))


def test_features_are_those_of_the_item_whatever_else_is_in_the_table() -> None:
    alone = item_features(np.array([3]), ITEMS[ITEMS["item_id"] == 3])
    assert np.array_equal(alone[0], item_features(np.array([1, 2, 3, 8]), ITEMS[::-1])[2])
    common = item_features(np.array([1, 3]), ITEMS)
    assert float((common[0] * common[1]).sum()) > 1  # the year, a genre and a word


def test_an_item_without_a_description_has_the_mean_features() -> None:
    found = item_features(np.array([1, 2, 3, 99]), ITEMS)
    assert np.allclose(found[1], found[[0, 2]].mean(axis=0)) and np.array_equal(found[1], found[3])
