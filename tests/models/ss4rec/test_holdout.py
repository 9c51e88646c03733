"""The ranking that chooses the epoch is the ranking that judges the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import MISS, Split, metrics, rank_requests, split
from models.recommender import IntArray
from models.ss4rec import SS4Rec
from models.ss4rec.last_hidden import last_hidden
from models.training import HoldoutRanking
from tests import synthetic
from tests.plain_ss4rec import PLAIN

TINY: dict[str, Any] = PLAIN | {
    "width": 8, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 20, "max_epochs": 1, "device": "cpu",
    "learning_rate": 0.02, "dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(150, 60, 12)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mask_seen", [True, False])
def test_the_reported_valid_metric_is_that_of_the_ranking_that_judges_the_model(
    precision: str, mask_seen: bool, parts: Split
) -> None:
    model = SS4Rec(SS4RecSettings(**TINY, precision=precision))
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=mask_seen)
    judged = rank_requests(model, parts.valid, parts.catalogue, mask_seen=mask_seen, batch_size=64)
    assert report.epochs[0].valid == metrics(judged.ranks, (10,))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_refused(bad: float, parts: Split) -> None:
    model = SS4Rec(SS4RecSettings(**TINY))
    model._take_vocabulary(parts.catalogue, parts.train)
    network = model._untrained().eval()
    holdout = HoldoutRanking(parts.valid, model._vocabulary, model._cold_scores(), 20, kind="ss4rec", mask_seen=True)

    def ranks() -> IntArray:
        return holdout.ranks(lambda read: last_hidden(network, read, "cpu"), network.items.weight[1:], MISS)

    assert ranks().min() >= 1
    with torch.no_grad():
        network.items.weight[7, 3] = bad
    with pytest.raises(TrainingError, match=r"scores of ss4rec for user \d+ are not finite"):
        ranks()
