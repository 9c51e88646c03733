"""Our protocol and metrics equal RecBole's own on real data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from configs.settings import EvaluationSettings, PopularitySettings
from models.evaluation import Split, list_metrics, metrics, rank_requests, split
from models.evaluation.ranking import head_items
from models.popularity import Popularity
from models.recbole_bridge.ncf import recbole_list_metrics, recbole_metrics, recbole_split
from models.recommender import Requests, Sequences

SETTINGS = EvaluationSettings(protocol="loo-recbole")


@pytest.fixture(scope="module")
def ours(ml_100k: pd.DataFrame) -> Split:
    return split(ml_100k, SETTINGS)


def test_the_split_equals_recboles_for_general_models_row_by_row(ml_100k: pd.DataFrame, ours: Split) -> None:
    before = (Path.cwd(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    theirs = recbole_split(ml_100k, SETTINGS.k_core, sequential=False)
    assert (Path.cwd(), os.environ.get("CUDA_VISIBLE_DEVICES")) == before
    for part, requests in (("valid", ours.valid), ("test", ours.test)):
        held_out = theirs[part].sort_values("user_id")
        assert held_out["user_id"].tolist() == requests.user_ids.tolist()
        assert held_out["item_id"].tolist() == requests.targets.tolist()
    train = theirs["train"].sort_values("user_id", kind="stable")  # RecBole's order is by time over all users
    assert train["user_id"].tolist() == ours.train.user_ids[ours.train.row_of_event].tolist()
    assert train["item_id"].tolist() == ours.train.item_ids.tolist()


@pytest.mark.full
def test_the_split_equals_recboles_for_sequential_models_with_histories(ml_100k: pd.DataFrame, ours: Split) -> None:
    theirs = recbole_split(ml_100k, SETTINGS.k_core, sequential=True)
    for part, requests in (("valid", ours.valid), ("test", ours.test)):
        held_out = theirs[part].sort_values("user_id")
        assert held_out["user_id"].tolist() == requests.user_ids.tolist()
        assert held_out["item_id"].tolist() == requests.targets.tolist()
        spans = zip(requests.offsets[:-1], requests.offsets[1:], strict=True)
        assert held_out["history"].tolist() == [requests.item_ids[max(a, b - 50) : b].tolist() for a, b in spans]
    # Every event of the train part except a user's first is a target there, with all events before it as history.
    targets = theirs["train"].sort_values("user_id", kind="stable")
    first = np.isin(np.arange(len(ours.train.item_ids)), ours.train.offsets[:-1])
    assert targets["item_id"].tolist() == ours.train.item_ids[~first].tolist()


def test_short_users_and_rounded_times_are_split_as_recbole_does() -> None:
    base = 1_000_000_000  # float32 steps are 64 s here, so many events of different seconds tie
    rng = np.random.default_rng(4)
    lengths = [1, 2, 3, 1, 2, 3, 4, 9, 2, 1, 5]
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    movies = np.concatenate([rng.permutation(12)[:length] + 1 for length in lengths])
    table = pd.DataFrame({"user_id": users, "item_id": movies, "timestamp": base + rng.integers(0, 300, len(users))})
    table = table.sample(frac=1, random_state=0).reset_index(drop=True).assign(row=np.arange(len(table)))
    ours = split(table, EvaluationSettings(protocol="loo-recbole", k_core=0))
    theirs = recbole_split(table, 0, sequential=False)
    for part, requests in (("valid", ours.valid), ("test", ours.test)):
        held_out = theirs[part].sort_values("user_id")
        assert held_out["user_id"].tolist() == requests.user_ids.tolist()
        assert held_out["item_id"].tolist() == requests.targets.tolist()
    train = theirs["train"].sort_values("user_id", kind="stable")
    assert train["user_id"].tolist() == ours.train.user_ids[ours.train.row_of_event].tolist()
    assert train["item_id"].tolist() == ours.train.item_ids.tolist()


class Noisy(Popularity):
    """Popularity with noise, so that ranks differ between users and hardly tie."""

    def __init__(self, sequential: bool, noise: float = 2) -> None:
        super().__init__(PopularitySettings())
        self.noise = noise
        self.__dict__["sequential"] = sequential

    def scores(self, requests: Requests) -> torch.Tensor:
        rows = [torch.rand(len(self.catalogue), generator=torch.Generator().manual_seed(int(u))) for u in requests.user_ids]
        return super().scores(requests).log1p() + self.noise * torch.stack(rows)


@pytest.mark.parametrize("sequential", [True, False])
def test_metrics_equal_recboles_evaluator_before_rounding(ours: Split, sequential: bool) -> None:
    model = Noisy(sequential)
    mask = ours.masks_seen(sequential)
    assert mask is not sequential
    model.fit(ours.train, ours.valid, ours.catalogue, seed=0, mask_seen=mask)
    ranking = rank_requests(model, ours.test, ours.catalogue, mask_seen=mask, batch_size=100)
    scores = model.scores(ours.test)
    if mask:
        columns = np.searchsorted(ours.catalogue, ours.test.item_ids)
        scores[torch.from_numpy(ours.test.row_of_event), torch.from_numpy(columns)] = -torch.inf
    theirs = recbole_metrics(scores, np.searchsorted(ours.catalogue, ours.test.targets), SETTINGS.ks)
    found = metrics(ranking.ranks, SETTINGS.ks)
    assert found.keys() == theirs.keys() and len(found) == 9
    for name, value in found.items():
        assert value > 0 and abs(value - theirs[name]) <= 1e-6, name


@pytest.mark.full
def test_recboles_import_leaves_autograd_as_it_was() -> None:
    program = "import torch; from models.recbole_bridge.ncf import neumf; from configs.settings import NCFSettings; neumf(3, 4, NCFSettings()); print(torch.is_anomaly_enabled())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


def test_metrics_of_lists_equal_recboles_except_for_its_padding_item_and_its_tail(ours: Split) -> None:
    model = Noisy(sequential=True, noise=10)  # so that the tail is shown
    model.fit(ours.train, ours.valid, ours.catalogue, seed=0, mask_seen=True)
    ranking = rank_requests(model, ours.test, ours.catalogue, mask_seen=True, batch_size=100)
    scores = model.scores(ours.test)
    seen = np.searchsorted(ours.catalogue, ours.test.item_ids)
    scores[torch.from_numpy(ours.test.row_of_event), torch.from_numpy(seen)] = -torch.inf
    kept = ~np.isin(ours.train.item_ids, ours.catalogue[::40])  # some items of the catalogue have no train events
    train = Sequences(np.array([0]), np.array([0, kept.sum()]), ours.train.item_ids[kept], ours.train.timestamps[kept])
    n = len(ours.catalogue)
    events = np.bincount(np.searchsorted(ours.catalogue, train.item_ids), minlength=n)
    in_train = int((events > 0).sum())
    tail = in_train - len(head_items(train))
    theirs = recbole_list_metrics(scores, events, 10, (tail + 0.5) / in_train)
    found = list_metrics(ranking, train)
    assert found["popularity@10"] == pytest.approx(theirs["AveragePopularity"], abs=1e-9)
    assert found["coverage@10"] == pytest.approx(theirs["ItemCoverage"] * (n + 1) / n, abs=1e-12)
    assert found["gini@10"] == pytest.approx(((n + 1) * theirs["GiniIndex"] - 1) / n, abs=1e-12)
    without_events = float((events[ranking.top] == 0).mean())
    assert found["tail@10"] == pytest.approx(theirs["TailPercentage"] + without_events, abs=1e-12)
    assert 0 < theirs["TailPercentage"] < 1 and without_events > 0
