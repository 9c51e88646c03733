"""Any model is served by its own pass, and a faulty one harms only the requests that it cannot score."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import VersionCorruptError
from configs.settings import NCFSettings, PopularitySettings
from models.general import NOBODY, GeneralModel
from models.ncf import NCF, NCFScores
from models.popularity import Popularity
from models.recommender import IntArray, Requests
from tests.tasks.stored import small_split

PARTS = small_split()


class Fragile(Popularity):
    """Scores a user by the number of the user's events; fails for user 3, returns NaN for user 4, and exits for user 5."""

    def scores(self, requests: Requests) -> torch.Tensor:
        if 3 in requests.user_ids:
            raise RuntimeError("user 3 is too much")
        if 5 in requests.user_ids:
            raise SystemExit("user 5 is too much")
        scores = super().scores(requests) + torch.from_numpy(requests.lengths).float()[:, None]
        scores[torch.from_numpy(requests.user_ids == 4)] = torch.nan
        return scores


def fitted(kind: type[Popularity]) -> Popularity:
    """Return a model of this class that was trained as a sound one."""
    model = Popularity(PopularitySettings())
    model.fit(PARTS.train, PARTS.valid, PARTS.catalogue, seed=0, mask_seen=True)
    model.__class__ = kind
    return model


def windows(users: list[int | None]) -> tuple[IntArray, IntArray, IntArray, IntArray, list[int | None]]:
    """Requests of these users with two events each."""
    count = len(users)
    return np.tile([0, 1], count), np.tile([5, 6], count), np.arange(count + 1) * 2, np.full(count, 9), users


def test_a_request_that_a_model_cannot_score_gets_the_scores_of_a_new_user_and_no_other_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = GeneralModel(fitted(Fragile))
    with caplog.at_level(logging.ERROR):
        scores = served.window_scores(*windows([1, 3, 4, None, 5]))
        served.window_scores(*windows([3]))
    cold = served.cold_scores
    assert np.array_equal(scores, np.stack([cold + 2, cold, cold, cold + 2, cold]))
    assert len(caplog.records) == 1 and "user 3 is too much" in str(vars(caplog.records[0]))


def test_a_request_without_a_user_has_a_user_that_nobody_is() -> None:
    seen: list[int] = []

    class Watching(Popularity):
        def scores(self, requests: Requests) -> torch.Tensor:
            seen.extend(requests.user_ids.tolist())
            return super().scores(requests)

    served = GeneralModel(fitted(Watching))
    served.window_scores(*windows([7, None]))
    assert seen == [NOBODY, 7, NOBODY]  # the first is the user without events


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (lambda scores: scores[:, :-1], "the shape (1, "),
        (lambda scores: scores.double(), "float64"),
        (lambda scores: scores * torch.nan, "not finite for a user without events"),
    ],
)
def test_a_model_whose_scores_have_no_use_is_refused_when_it_is_loaded(returned: Any, reason: str) -> None:
    class Wrong(Popularity):
        def scores(self, requests: Requests) -> torch.Tensor:
            return returned(super().scores(requests))  # type: ignore[no-any-return]

    with pytest.raises(VersionCorruptError, match=reason.replace("(", r"\(")):
        GeneralModel(fitted(Wrong))


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (lambda items: torch.ones(items + 1, 4), r"have the shape \(\d+, 4\).* without a row for padding"),
        (lambda items: torch.ones(items), r"have the shape \(\d+,\)"),
        (lambda items: torch.full((items, 4), torch.inf), "are not finite"),
    ],
)
def test_a_model_without_one_finite_vector_for_each_item_is_refused_when_it_is_loaded(vectors: Any, reason: str) -> None:
    class Padded(Popularity):
        def item_vectors(self) -> torch.Tensor:
            return vectors(len(self.catalogue))  # type: ignore[no-any-return]

    with pytest.raises(VersionCorruptError, match=reason):
        GeneralModel(fitted(Padded))


def test_no_request_is_earlier_than_its_events_although_they_may_be_later_than_the_clock() -> None:
    asked: list[list[int]] = []

    class Watching(Popularity):
        def scores(self, requests: Requests) -> torch.Tensor:
            asked.append(requests.request_times.tolist())
            return super().scores(requests)

    served = GeneralModel(fitted(Watching))
    items, times, offsets = np.array([0, 1, 0]), np.array([5, 300, 6]), np.array([0, 0, 2, 3, 3])
    served.window_scores(items, times, offsets, np.array([9, 9, 9, 8]), [1, 2, 3, 4])
    assert asked[-1] == [9, 300, 9, 8]


def test_a_model_that_exits_when_it_is_loaded_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def leave(folder: Path) -> None:
        raise SystemExit("this model needs a GPU")

    monkeypatch.setattr("models.general.load_recommender", leave)
    with pytest.raises(VersionCorruptError, match="SystemExit: this model needs a GPU"):
        GeneralModel.load(tmp_path)


def test_a_model_of_users_gives_the_scores_of_its_own_serving_form(tmp_path: Any) -> None:
    model = NCF(NCFSettings(device="cpu", max_epochs=1))
    model.fit(PARTS.train, PARTS.valid, PARTS.catalogue, seed=0, mask_seen=True)
    model.save(tmp_path)
    own, general = NCFScores.load(tmp_path), GeneralModel(model)
    users: list[int | None] = [int(PARTS.train.user_ids[0]), int(PARTS.train.user_ids[-1]), 10**9, None]
    items, times, *_ = windows(users)
    expected = own.scores(own.advance(own.start(4), items, times, np.zeros(5, np.int64), users, times))
    assert np.abs(general.window_scores(*windows(users)) - expected).max() < 1e-5
