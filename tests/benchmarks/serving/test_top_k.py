"""The benchmark of the index compares its lists with those of a scan, on items that are like the films of a trained model."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serving import top_k
from benchmarks.serving.top_k import Trained, render
from models.pruning import ItemIndex
from models.recommender import Sequences

RNG = np.random.default_rng(2)
FILMS = (RNG.normal(size=(400, 16)) * np.arange(16, 0, -1) + 3).astype(np.float32)
TRAINED = Trained(FILMS, [["Drama"] if number % 3 else ["Comedy", "Drama"] for number in range(400)], FILMS[:30] / 20)


@pytest.mark.parametrize("kind", ["as trained", "noise alone"])
def test_the_items_have_the_mean_and_the_covariance_of_the_films(kind: str) -> None:
    items = top_k._items(TRAINED, kind, 40_000, 1)
    assert np.allclose(items.vectors.mean(axis=0), FILMS.mean(axis=0), atol=0.4)
    assert np.allclose(np.cov(items.vectors.T), np.cov(FILMS.T), atol=8)
    assert items.catalogue.genre_bits[:, 1].all() and 0.2 < items.catalogue.genre_bits[:, 0].mean() < 0.45


@pytest.mark.parametrize("kind", ["as trained", "equally likely directions"])
def test_every_request_is_ranked_in_both_ways(kind: str) -> None:
    items = top_k._items(TRAINED, kind, 3000, 1)
    index = ItemIndex.of(items.vectors)
    assert index is not None
    row = top_k._measured(items, index, ("Comedy",), 20, 1)
    assert row["equal"] == row["requests"] == 20 and 0 < row["p50_ms"] <= row["p99_ms"]
    built = {"vectors": kind, "genres": ["Comedy"], "built_s": 1.0, "index_bytes": index.nbytes}
    table = render({"items": 3000, "rows": [built | row]})
    assert f"| {kind} | Comedy, " in table and ("met" in table) == (row["p99_ms"] < 10)


def test_a_request_is_made_after_some_of_a_persons_events() -> None:
    train = Sequences(np.array([5, 9]), np.array([0, 3, 7]), np.arange(7), np.arange(7) * 60)
    asked = top_k._asked(train, 40, 1)
    assert len(asked) == 40 and set(asked.user_ids.tolist()) == {5, 9}
    for user, begin, end, now in zip(asked.user_ids, asked.offsets, asked.offsets[1:], asked.request_times, strict=False):
        own = asked.item_ids[begin:end].tolist()
        assert own == list(range(own[0], own[0] + len(own))) and own[0] == (0 if user == 5 else 3) and now == 60 * own[-1] + 60
