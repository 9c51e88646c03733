from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.markov import Markov, MarkovSettings
from models.recommender import Requests, Sequences

CATALOGUE = np.array([10, 20, 30, 40])


def asked(*histories: list[int]) -> Requests:
    lengths = [len(items) for items in histories]
    items = np.array([item for items in histories for item in items], np.int64)
    count = len(histories)
    return Requests(
        np.arange(count), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items, np.arange(len(items)),
        request_times=np.full(count, 99), targets=np.full(count, 10),
    )  # fmt: skip


def fitted(sequences: list[list[int]], smoothing: float, weights: list[float] | None = None) -> Markov:
    lengths = [len(items) for items in sequences]
    items = np.array([item for items in sequences for item in items], np.int64)
    given_weights = None if weights is None else np.array(weights, np.float32)
    train = Sequences(
        np.arange(len(sequences)), np.concatenate([[0], np.cumsum(lengths)]), items, np.arange(len(items)), weights=given_weights
    )
    model = Markov(MarkovSettings(smoothing=smoothing))
    model.fit(train, asked([10]), CATALOGUE, seed=0, mask_seen=True)
    return model


def test_probabilities_are_those_counted_by_hand() -> None:
    model = fitted([[10, 20, 30], [10, 20], [10, 30], [20, 99, 40]], smoothing=2.0)
    # Events: 10 three times, 20 three, 30 two, 40 one; with one more each, shares of 13.
    popular = np.array([4, 4, 3, 2]) / 13
    found = model.scores(asked([30, 10], [10, 20], [40], [], [99])).numpy()
    np.testing.assert_allclose(found[0], (np.array([0, 2, 1, 0]) + 2 * popular) / (3 + 2), rtol=1e-6)
    np.testing.assert_allclose(
        found[1], (np.array([0, 0, 1, 1]) + 2 * popular) / (2 + 2), rtol=1e-6
    )  # the unknown 99 does not count
    np.testing.assert_allclose(found[2:], np.tile(popular, (3, 1)), rtol=1e-6)


def test_a_transition_counts_as_much_as_the_event_that_it_leads_to() -> None:
    model = fitted([[10, 20], [10, 30]], smoothing=1e-6, weights=[1.0, 3.0, 1.0, 1.0])
    np.testing.assert_allclose(model.scores(asked([10])).numpy()[0], [0, 0.75, 0.25, 0], atol=1e-5)


@given(st.lists(st.lists(st.sampled_from([10, 20, 30, 40, 99]), max_size=8), min_size=1, max_size=8), st.floats(0.01, 100))
def test_probabilities_are_positive_and_sum_to_one(sequences: list[list[int]], smoothing: float) -> None:
    scores = fitted(sequences, smoothing).scores(asked([10], [20, 99], [])).numpy()
    assert (scores > 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("history", [[10], [40, 10], [30, 20, 10]])
def test_only_the_last_item_matters(history: list[int]) -> None:
    model = fitted([[10, 20], [20, 30], [30, 40]], smoothing=1.0)
    assert (model.scores(asked(history)) == model.scores(asked([10]))).all() and model.max_length == 1
