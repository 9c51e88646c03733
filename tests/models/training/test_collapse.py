"""A training that collapses with finite numbers is told within three epochs; a sound one is never accused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from configs.settings import EvaluationSettings, PopularitySettings, SS4RecSettings
from models.evaluation import Split, popularity_level, rank_requests, ranks_by_count, split
from models.popularity import Popularity
from models.recommender import EpochReport, FitReport
from models.ss4rec import SS4Rec
from models.training.collapse import collapse_of
from tests import synthetic
from tests.plain_ss4rec import PLAIN

TINY: dict[str, Any] = PLAIN | {
    "width": 16, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 12, "batch_tokens": 96, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(60, 300, 25)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def told(valid: list[float], losses: list[float] | None = None, popularity: float | None = 0.03) -> list[int]:
    """Return the epochs whose report has a warning."""
    given = losses or [7 - 0.2 * epoch for epoch in range(len(valid))]
    reports = [
        EpochReport(n, 99, loss, {"ndcg@10": value}, 1.0, n) for n, (value, loss) in enumerate(zip(valid, given, strict=True), 1)
    ]
    return [n for n in range(1, len(reports) + 1) if collapse_of(reports[:n], "ndcg@10", popularity)]


def test_a_fall_far_below_the_best_epoch_is_told_in_the_third_epoch_after_it() -> None:
    assert told([0.1, 0.2, 0.21, 0.03, 0.02, 0.03, 0.03]) == [6, 7]
    assert told([0.1, 0.2, 0.21, 0.03, 0.02, 0.15, 0.03]) == []  # it recovers
    assert told([0.1, 0.2, 0.21, 0.03, 0.02, 0.03], popularity=None) == [6]


def test_a_run_that_stays_at_popularity_while_its_loss_does_not_move_is_told_in_the_third_epoch() -> None:
    assert told([0.03, 0.031, 0.029, 0.03], [7.5, 7.5, 7.6, 7.5]) == [3, 4]
    assert told([0.03] * 4, [7.5, 7.5, 7.6, 7.5], popularity=None) == []


def test_slow_learning_convergence_and_overfitting_are_not_accused() -> None:
    assert told([0.03, 0.03, 0.031, 0.05, 0.08], [7.5, 7.3, 7.1, 6.9, 6.7]) == []  # starts at popularity, but learns
    assert told([0.2, 0.21, 0.21, 0.21], [5.0, 5.0, 5.0, 5.0]) == []  # has converged
    assert told([0.1, 0.2, 0.19, 0.17, 0.15, 0.14]) == []  # overfits


@pytest.mark.parametrize("mask_seen", [True, False])
def test_the_level_of_popularity_is_that_of_the_model_that_ranks_by_it(mask_seen: bool, parts: Split) -> None:
    model = Popularity(PopularitySettings())
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=mask_seen)
    found = ranks_by_count(parts.train, parts.valid, parts.catalogue, mask_seen=mask_seen)
    assert np.array_equal(found, rank_requests(model, parts.valid, parts.catalogue, mask_seen=mask_seen, batch_size=99).ranks)
    level = popularity_level(parts.train, parts.valid, parts.catalogue, mask_seen=mask_seen)
    assert level == report.epochs[0].valid["ndcg@10"]


def fitted(parts: Split, ruined_after: int | None = None, **changes: Any) -> FitReport:
    """Train a small model. From an epoch on, the vectors of its items are drawn again, large, after each epoch."""
    model = SS4Rec(SS4RecSettings(**TINY | {"max_epochs": 3, "dropout": 0.1, "weight_averaging": 0.0, "patience": 9} | changes))

    def ruin(report: EpochReport) -> None:
        with torch.no_grad():
            if ruined_after is not None and report.epoch >= ruined_after:
                model.network.items.weight.normal_(std=10)

    on_epoch = None if ruined_after is None else ruin
    return model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, on_epoch=on_epoch)


def test_a_learning_rate_that_learns_nothing_is_told_within_three_epochs(parts: Split, caplog: pytest.LogCaptureFixture) -> None:
    report = fitted(parts, learning_rate=1e-9)
    assert "Training has collapsed" in report.epochs[2].warning and report.collapsed == report.epochs[2].warning
    assert [record.getMessage() for record in caplog.records] == [report.collapsed]
    assert "and the loss no longer falls" in report.collapsed


def test_weights_that_are_ruined_while_training_goes_on_are_told_and_those_of_the_best_epoch_are_kept(parts: Split) -> None:
    report = fitted(parts, ruined_after=3, max_epochs=6, learning_rate=5e-3)
    assert [epoch.epoch for epoch in report.epochs if epoch.warning] == [6]
    assert report.best_epoch <= 3 and "in the last 3 epochs" in report.epochs[-1].warning and not report.collapsed
