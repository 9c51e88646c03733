"""RecBole's models go the way of any kind: trained as candidates, judged, checked by the gate, and served by their own pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.settings import RetrainSettings
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from serving.engine import ServedModel
from tasks.evaluation import check_staged
from tasks.gate import stage_challenger
from tasks.training import train_candidate
from tests import synthetic
from tests.tasks.world import NAME, SETTINGS, dataset_of, evaluated


@pytest.mark.full
@pytest.mark.parametrize("name", ["GRU4Rec", "LightGCN"])
def test_a_model_of_recbole_is_a_challenger_that_passes_the_load_check_and_is_served(name: str, tmp_path: Path) -> None:
    recbole = {"model": name, "max_epochs": 2, "max_length": 10, "batch_size": 256, "device": "cpu"}
    settings = RetrainSettings.model_validate(
        {
            **SETTINGS,
            "challenger": "recbole",
            "baselines": ["popularity"],
            "models": {"recbole": recbole},
            "store": {"url": f"file:{tmp_path}/store"},
            "work_dir": str(tmp_path / "work"),
        }
    )
    store = LocalStore(tmp_path / "store")
    dataset = dataset_of(store, settings, tmp_path / "data", synthetic.interactions(80, 40, 25))
    candidates = [train_candidate(store, dataset, kind, settings) for kind in ("popularity", "recbole")]
    assert [epoch.epoch for epoch in candidates[-1].epochs] == [1, 2]
    evaluation, assembled = evaluated(store, dataset, candidates, settings)
    assert evaluation.metrics["recbole"]["all"]["ndcg@10"] > 0
    staged = stage_challenger(store, NAME, assembled)
    found = check_staged(store, staged, settings.promotion)
    assert found.ok, found.reason
    with ModelRegistry(store).fetched(staged) as folder:
        served = ServedModel.load(folder, "v1", 1, 1000)
        assert served.model.kind == "recbole" and served.check_samples(folder) == settings.promotion.sample_requests
