from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.settings import EvaluationSettings, PopularitySettings
from models.evaluation import Split, rank_requests, split
from models.popularity import Popularity
from models.recommender import EpochReport
from tests import synthetic


@pytest.fixture(scope="module")
def parts() -> Split:
    return split(synthetic.interactions(40, 30, 12), EvaluationSettings(k_core=0))


def fitted(parts: Split, reports: list[EpochReport] | None = None) -> Popularity:
    model = Popularity(PopularitySettings())
    on_epoch = None if reports is None else reports.append
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True, on_epoch=on_epoch)
    return model


def test_scores_are_the_train_counts_for_everybody(parts: Split) -> None:
    scores = fitted(parts).scores(parts.test)
    counts = [int((parts.train.item_ids == item).sum()) for item in parts.catalogue]
    assert scores.shape == (len(parts.test), len(parts.catalogue))
    assert (scores == torch.tensor(counts, dtype=torch.float32)).all()


def test_weights_are_summed_instead_of_events(parts: Split) -> None:
    weights = np.arange(len(parts.train.item_ids), dtype=np.float32) % 3 + 0.5
    scores = fitted(replace(parts, train=replace(parts.train, weights=weights))).scores(parts.test)
    sums = [float(weights[parts.train.item_ids == item].sum()) for item in parts.catalogue]
    assert scores[0].tolist() == sums


def test_train_items_outside_the_catalogue_are_not_counted(parts: Split) -> None:
    model = Popularity(PopularitySettings())
    smaller = parts.catalogue[1:-1]
    model.fit(parts.train, parts.valid, smaller, seed=0, mask_seen=True)
    assert model.scores(parts.test)[0].sum() == np.isin(parts.train.item_ids, smaller).sum()


def test_the_one_epoch_is_reported_with_its_valid_metrics(parts: Split) -> None:
    reports: list[EpochReport] = []
    fitted(parts, reports)
    assert [report.epoch for report in reports] == [1]
    assert set(reports[0].valid) == {"hr@10", "ndcg@10", "mrr@10"}


def test_ranking_leaves_the_counts_as_they_were(parts: Split) -> None:
    model = fitted(parts)
    before = model.scores(parts.test).clone()
    rank_requests(model, parts.test, parts.catalogue, mask_seen=True, batch_size=7)
    assert (model.scores(parts.test) == before).all()


def test_a_stored_model_answers_as_before(parts: Split, tmp_path: Path) -> None:
    model = fitted(parts)
    model.save(tmp_path / "model")
    loaded = Popularity.load(tmp_path / "model")
    assert (loaded.catalogue == model.catalogue).all()
    assert (loaded.scores(parts.test) == model.scores(parts.test)).all()
