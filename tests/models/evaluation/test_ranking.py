from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from configs.errors import TrainingError
from configs.settings import PopularitySettings
from models.evaluation import MISS, metrics, per_request, rank_requests, slices
from models.popularity import Popularity
from models.recommender import FitReport, Recommender, Requests, Sequences
from tests.tasks.stored import small_split


class Fixed(Recommender):
    """A model that answers with given scores; a request's user id is the number of its row."""

    name = "fixed"
    sequential = True

    def __init__(self, catalogue: list[int], scores: np.ndarray[Any, Any]) -> None:
        self.catalogue = np.array(catalogue, dtype=np.int64)
        self._scores = torch.as_tensor(scores, dtype=torch.float32)
        self.largest_batch = 0

    def fit(self, *args: Any, **kwargs: Any) -> FitReport:
        raise AssertionError("not trained")

    def scores(self, requests: Requests) -> torch.Tensor:
        self.largest_batch = max(self.largest_batch, len(requests))
        return self._scores[torch.from_numpy(requests.user_ids)]

    def save(self, folder: Path) -> None:
        raise AssertionError("not stored")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Fixed:
        raise AssertionError("not stored")

    def settings(self) -> dict[str, Any]:
        return {}


def requests(histories: list[list[int]], targets: list[int]) -> Requests:
    lengths = [len(history) for history in histories]
    items = np.array([item for history in histories for item in history], dtype=np.int64)
    return Requests(
        user_ids=np.arange(len(targets)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_ids=items,
        timestamps=np.zeros(len(items), dtype=np.int64),
        request_times=np.arange(len(targets)),
        targets=np.array(targets, dtype=np.int64),
    )


CATALOGUE = [2, 3, 5, 7, 11, 13]
SCORES = arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(6)), elements=st.integers(-3, 3).map(float))


@given(SCORES, st.integers(1, 4), st.booleans(), st.data())
def test_ranks_equal_a_plain_count_with_ties_against_the_model(
    scores: np.ndarray[Any, Any], batch: int, mask: bool, data: st.DataObject
) -> None:
    count = len(scores)
    histories = data.draw(st.lists(st.lists(st.sampled_from(CATALOGUE), max_size=3), min_size=count, max_size=count))
    targets = data.draw(st.lists(st.sampled_from([*CATALOGUE, 99]), min_size=count, max_size=count))
    model = Fixed(CATALOGUE, scores)
    ranking = rank_requests(model, requests(histories, targets), np.array(CATALOGUE), mask_seen=mask, batch_size=batch)
    assert model.largest_batch <= batch
    for row in range(count):
        open_items = {item: s for item, s in zip(CATALOGUE, scores[row], strict=True) if not mask or item not in histories[row]}
        if targets[row] not in open_items:
            assert ranking.ranks[row] == MISS
        else:
            assert ranking.ranks[row] == sum(s >= open_items[targets[row]] for s in open_items.values())


def test_a_model_with_another_vocabulary_misses_what_it_does_not_know() -> None:
    model = Fixed([3, 5, 100], np.array([[1.0, 2.0, 9.0], [1.0, 2.0, 9.0]]))
    ranking = rank_requests(model, requests([[], []], [3, 7]), np.array([2, 3, 5, 7]), mask_seen=True, batch_size=8)
    assert ranking.ranks.tolist() == [2, MISS]
    assert ranking.top.dtype == np.int32 and ranking.top.tolist() == [[2, 1, -1, -1]] * 2
    assert ranking.recommended.tolist() == [0, 2, 2, 0]


def test_a_constant_score_ranks_the_target_last() -> None:
    ranking = rank_requests(
        Fixed(CATALOGUE, np.zeros((1, 6))), requests([[]], [2]), np.array(CATALOGUE), mask_seen=True, batch_size=1
    )
    assert ranking.ranks.tolist() == [6]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    scores = np.zeros((2, 6))
    scores[1, 3] = value
    with pytest.raises(TrainingError, match="fixed for user 1 are not finite"):
        rank_requests(Fixed(CATALOGUE, scores), requests([[], []], [2, 2]), np.array(CATALOGUE), mask_seen=True, batch_size=2)


@given(st.lists(st.one_of(st.integers(1, 30), st.just(MISS)), min_size=1, max_size=20))
def test_metrics_equal_their_definitions(ranks: list[int]) -> None:
    found = metrics(np.array(ranks), (5, 10))
    for k in (5, 10):
        assert found[f"hr@{k}"] == pytest.approx(sum(r <= k for r in ranks) / len(ranks))
        assert found[f"ndcg@{k}"] == pytest.approx(sum(1 / np.log2(1 + r) for r in ranks if r <= k) / len(ranks))
        assert found[f"mrr@{k}"] == pytest.approx(sum(1 / r for r in ranks if r <= k) / len(ranks))
    assert found["hr@5"] <= found["hr@10"] and found["mrr@10"] <= found["ndcg@10"] <= found["hr@10"]


def test_unknown_metrics_and_empty_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown metric"):
        per_request(np.array([1]), "map", 10)
    with pytest.raises(ValueError, match="no ranks"):
        metrics(np.array([], dtype=np.int64), (10,))


def test_slices_divide_the_requests_as_their_names_say() -> None:
    train = Sequences(np.array([0]), np.array([0, 8]), np.array([2, 2, 2, 2, 2, 3, 5, 7]), np.zeros(8, dtype=np.int64))
    asked = requests([[2]] * 2 + [[2] * 12] * 4 + [[2] * 40] * 2, [2, 3, 5, 7, 2, 2, 2, 99])
    masks = slices(train, asked)
    assert masks["new users"].tolist() == [True] * 2 + [False] * 6
    assert masks["light users"][:2].all() and masks["heavy users"][-2:].all()
    assert masks["head items"].tolist() == [True, False, False, False, True, True, True, False]
    assert (masks["tail items"] == ~masks["head items"]).all()
    assert masks["recent users"].tolist() == [False] * 7 + [True]


def test_scores_of_another_shape_are_refused_with_the_name_of_the_model() -> None:
    class Narrow(Popularity):
        def scores(self, requests: Requests) -> torch.Tensor:
            return super().scores(requests)[:, 1:]

    parts = small_split()
    sound = Popularity(PopularitySettings())
    sound.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    sound.__class__ = Narrow
    with pytest.raises(
        TrainingError, match=r"The model popularity returned scores of the shape \(60, 39\), but it must be \(60, 40\)"
    ):
        rank_requests(sound, parts.test, parts.catalogue, mask_seen=True, batch_size=100)
