from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics.pairwise import cosine_similarity

from models.itemknn import ItemKNN, ItemKNNSettings, nearest_items, recency
from models.recommender import Requests, Sequences
from models.sequences import Vocabulary


@given(st.integers(1, 30), st.integers(2, 12), st.integers(0, 2**16))
def test_all_neighbours_without_shrinkage_are_sklearns_cosine(users: int, items: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.random((users, items)) < 0.5) * rng.uniform(0.2, 2, (users, items))
    expected = cosine_similarity(dense.T)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(nearest_items(csr_array(dense), items, 0.0).toarray(), expected, atol=1e-6)


def test_shrinkage_is_added_to_the_denominator_and_the_most_similar_items_are_kept() -> None:
    dense = (np.random.default_rng(3).random((200, 30)) < 0.3).astype(float)
    together, length = dense.T @ dense, np.sqrt(dense.sum(axis=0))
    similar = together / (np.outer(length, length) + 7.0)
    np.fill_diagonal(similar, 0)
    found = nearest_items(csr_array(dense), 5, 7.0).toarray()
    assert ((found > 0).sum(axis=1) == 5).all()
    for row, kept in enumerate(found):
        assert kept[kept > 0].min() >= np.sort(similar[row])[-5] - 1e-7
        np.testing.assert_allclose(kept[kept > 0], similar[row][kept > 0], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 4, 11])
def test_blocks_make_no_difference(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = csr_array((np.random.default_rng(3).random((40, 23)) < 0.3).astype(np.float32))
    whole = nearest_items(events, 4, 1.0).toarray()
    monkeypatch.setattr("models.cooccurrence.matrix.ROWS_AT_ONCE", rows)
    assert np.array_equal(nearest_items(events, 4, 1.0).toarray(), whole)


def test_an_event_counts_half_after_its_half_life_and_unknown_items_make_no_difference() -> None:
    rows = Sequences(
        np.array([1, 2]), np.array([0, 4, 6]), np.array([10, 99, 20, 30, 10, 99]), np.array([0, 50, 100, 200, 7, 900])
    )
    items = Vocabulary(np.array([10, 20, 30]))
    known = [0, 2, 3, 4]
    assert recency(rows, items, 0.0, 0.0).tolist() == [1.0] * 6
    assert recency(rows, items, 1.0, 0.0)[known].tolist() == [0.25, 0.5, 1.0, 1.0]
    assert recency(rows, items, 0.0, 100.0)[known].tolist() == [0.25, 0.5, 1.0, 1.0]
    assert recency(rows, items, 2.0, 100.0)[known].tolist() == pytest.approx([0.125, 2**-1.5, 1.0, 1.0])


def test_the_newest_event_decides_if_earlier_ones_fade() -> None:
    catalogue = np.arange(6)
    pairs = [(0, 1), (0, 1), (2, 3), (2, 3), (2, 3), (4, 5)]  # two users have 0 with 1, three have 2 with 3
    train = Sequences(np.arange(6), np.arange(0, 13, 2), np.array(pairs).ravel(), np.arange(12))
    asked = Requests(
        np.array([7, 7, 8]), np.array([0, 2, 4, 4]), np.array([2, 0, 0, 2]), np.array([1, 90, 1, 90]),
        request_times=np.array([95, 95, 95]), targets=np.array([1, 3, 0]),
    )  # fmt: skip

    def best(**given: float) -> list[int]:
        model = ItemKNN(ItemKNNSettings(shrink=1.0, **given))
        model.fit(train, asked, catalogue, seed=0, mask_seen=True)
        return model.scores(asked).argmax(dim=1).tolist()

    assert best() == [3, 3, 2]  # without a half-life, the pair that is more frequent; without events, the most popular item
    assert best(half_life_events=1.0) == best(half_life_s=30.0) == [1, 3, 2]


def test_items_that_are_no_neighbours_follow_by_popularity() -> None:
    train = Sequences(np.arange(4), np.array([0, 2, 3, 5, 6]), np.array([0, 1, 2, 2, 3, 3]), np.arange(6))
    asked = Requests(
        np.array([9]), np.array([0, 1]), np.array([0]), np.array([1]), request_times=np.array([2]), targets=np.array([1])
    )
    model = ItemKNN(ItemKNNSettings())
    model.fit(train, asked, np.arange(4), seed=0, mask_seen=True)
    scores = model.scores(asked)[0]
    assert scores[1] > scores[2] == scores[3] > scores[0] > 0
