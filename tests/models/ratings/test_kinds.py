"""Kinds that predict ratings: NCF and SS4Rec with a head, and biased matrix factorisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import NCFSettings, SS4RecSettings
from models.biased_mf import BiasedMF, BiasedMFSettings, solved
from models.evaluation import Split, rating_errors
from models.loading import load_recommender
from models.ncf import NCF
from models.ratings import RatingOffsets
from models.recommender import Recommender, Requests
from models.sequences import Vocabulary
from models.ss4rec import SS4Rec
from tasks.evaluation import errors_of_ratings
from tests.models.ratings.rated import rated_split

NCF_SMALL = {"mf_width": 4, "mlp_width": 4, "mlp_hidden": (8, 4), "batch_size": 256, "max_epochs": 2, "device": "cpu"}
SS4REC_SMALL = {"width": 8, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 8, "max_epochs": 2, "device": "cpu"}
WITH_HEAD: dict[str, Callable[[bool], Recommender]] = {
    "ncf": lambda on: NCF(NCFSettings.model_validate(NCF_SMALL | {"rating_head": on})),
    "ss4rec": lambda on: SS4Rec(SS4RecSettings.model_validate(SS4REC_SMALL | {"rating_head": on})),
}
KINDS = {**WITH_HEAD, "biased_mf": lambda on: BiasedMF(BiasedMFSettings(width=2, regularisation=0.02))}
each_head = pytest.mark.parametrize("kind", WITH_HEAD)
each_kind = pytest.mark.parametrize("kind", KINDS)
Trained = Callable[[str], Recommender]


@pytest.fixture(scope="module")
def parts() -> Split:
    return rated_split()


def fitted(model: Recommender, parts: Split) -> Recommender:
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    return model


@pytest.fixture(scope="module")
def trained(parts: Split) -> Trained:
    found: dict[str, Recommender] = {}

    def of(kind: str) -> Recommender:
        if kind not in found:
            found[kind] = fitted(KINDS[kind](True), parts)
        return found[kind]

    return of


def predicted(model: Recommender, requests: Requests) -> np.ndarray[Any, Any]:
    found = model.predict_ratings(requests)
    assert found is not None
    return found.numpy()


@pytest.mark.full
@each_head
def test_a_head_changes_no_digit_of_the_ranking_and_without_it_no_rating_is_predicted(
    kind: str, parts: Split, trained: Trained, tmp_path: Path
) -> None:
    plain = fitted(WITH_HEAD[kind](False), parts)
    assert plain.predict_ratings(parts.test) is None and trained(kind).predict_ratings(parts.test) is not None
    assert torch.equal(plain.scores(parts.test), trained(kind).scores(parts.test))
    unrated = fitted(
        WITH_HEAD[kind](False), replace(parts, train=replace(parts.train, ratings=None), valid=replace(parts.valid, ratings=None))
    )
    assert torch.equal(plain.scores(parts.test), unrated.scores(parts.test))
    plain.save(tmp_path)
    assert not (tmp_path / "rating_head.safetensors").exists()


@each_kind
def test_ratings_are_predicted_better_than_by_the_means_of_user_and_item(kind: str, parts: Split, trained: Trained) -> None:
    given = parts.test.target_ratings
    assert given is not None
    offsets, items = RatingOffsets.of(parts.train, Vocabulary(parts.catalogue), kind), Vocabulary(parts.catalogue)
    by_means = offsets.mean + offsets.of_items[items.indices(parts.test.targets)] + offsets.of_users(parts.test, items)
    means = rating_errors(offsets.clipped(by_means), given)["rmse"]
    found = errors_of_ratings(trained(kind), parts.test, batch_size=7, seed=1)
    assert set(found.metrics) == set(found.intervals) == {"rmse", "mae"}
    assert found.metrics["rmse"] < (0.7 * means if kind == "biased_mf" else 1.02 * means)
    assert found.intervals["rmse"][0] < found.metrics["rmse"] < found.intervals["rmse"][1]
    assert found.metrics["rmse"] == pytest.approx(rating_errors(predicted(trained(kind), parts.test), given)["rmse"], abs=1e-5)


@each_kind
def test_a_prediction_depends_on_the_target_and_the_history_but_not_on_the_given_rating(
    kind: str, parts: Split, trained: Trained
) -> None:
    model, asked = trained(kind), parts.test
    assert asked.target_ratings is not None and asked.ratings is not None
    expected = predicted(model, asked)
    np.testing.assert_array_equal(predicted(model, replace(asked, target_ratings=6 - asked.target_ratings)), expected)
    assert (predicted(model, replace(asked, targets=np.roll(asked.targets, 1))) != expected).any()
    assert (predicted(model, replace(asked, ratings=6 - asked.ratings)) != expected).any()


@each_kind
def test_unknown_users_and_items_get_a_rating_within_the_range(kind: str, parts: Split, trained: Trained) -> None:
    nothing = np.empty(0, np.int64)
    asked = Requests(
        np.array([10**9, 3]), np.zeros(3, np.int64), nothing, nothing,
        request_times=np.array([1, 1]), targets=np.array([int(parts.catalogue[0]), 10**9]),
    )  # fmt: skip
    found = predicted(trained(kind), asked)
    assert found.shape == (2,) and found.dtype == np.float32 and (found >= 1).all() and (found <= 5).all()


@each_kind
def test_a_stored_model_predicts_the_same_ratings(kind: str, parts: Split, trained: Trained, tmp_path: Path) -> None:
    trained(kind).save(tmp_path)
    np.testing.assert_allclose(predicted(load_recommender(tmp_path), parts.test), predicted(trained(kind), parts.test), rtol=1e-6)


@each_kind
def test_events_without_ratings_are_refused_by_a_model_that_should_learn_them(kind: str, parts: Split) -> None:
    with pytest.raises(TrainingError, match=f"The model {kind} should learn ratings, but the events have none"):
        fitted(KINDS[kind](True), replace(parts, train=replace(parts.train, ratings=None)))


def test_requests_without_ratings_have_no_errors(parts: Split, trained: Trained) -> None:
    bare = replace(parts.test, target_ratings=None)
    assert errors_of_ratings(trained("biased_mf"), bare, batch_size=9, seed=1).metrics == {}


class Broken(BiasedMF):
    def predict_ratings(self, requests: Requests) -> torch.Tensor:
        return torch.full((len(requests),), torch.nan)


def test_ratings_that_are_not_finite_are_refused(parts: Split) -> None:
    with pytest.raises(TrainingError, match="must predict one finite rating for each of 9 requests"):
        errors_of_ratings(fitted(Broken(BiasedMFSettings(rounds=1)), parts), parts.test, batch_size=9, seed=1)


def test_each_row_is_the_ridge_regression_of_its_own_ratings() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(2)
    other, columns, ratings = rng.normal(size=(9, 3)), rng.integers(0, 9, 20), rng.normal(size=20)
    found = solved(np.array([0, 7, 7, 20]), columns, ratings, other, 0.3)
    assert (found[1] == 0).all()
    for row, begin, end in ((0, 0, 7), (2, 7, 20)):
        inputs = np.concatenate([np.ones((end - begin, 1)), other[columns[begin:end]]], axis=1)
        ridge = Ridge(alpha=0.3 * (end - begin), fit_intercept=False).fit(inputs, ratings[begin:end])
        np.testing.assert_allclose(found[row], ridge.coef_, atol=1e-8)


def test_a_split_keeps_each_rating_with_its_event(parts: Split) -> None:
    for requests in (parts.valid, parts.test):
        assert (
            requests.ratings is not None
            and requests.target_ratings is not None
            and len(requests.ratings) == len(requests.item_ids)
        )
    some = parts.test.take(np.array([5, 2]))
    assert some.target_ratings is not None and parts.test.target_ratings is not None
    assert some.target_ratings.tolist() == parts.test.target_ratings[[5, 2]].tolist()
    assert parts.train.ratings is not None and parts.test.ratings is not None
    first = slice(parts.train.offsets[0], parts.train.offsets[1])
    np.testing.assert_array_equal(parts.test.ratings[: first.stop], parts.train.ratings[first])
