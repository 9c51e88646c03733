"""What retraining records about each candidate's run, in the store and at Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from configs.errors import TrainingError
from configs.settings import RetrainSettings
from flows.retrain import retrain
from flows.train import train
from infra.storage import open_store
from tasks.tracking import tracker as trackers
from tests.flows.conftest import QUICK
from tests.tasks.tracking.wandb_files import read_offline_runs

Make = Callable[..., RetrainSettings]


@pytest.mark.full
def test_each_candidate_is_recorded_and_tracked_with_the_gates_outcome(make_settings: Make) -> None:
    settings = make_settings(tracking={"mode": "offline", "timeout_s": 300})
    summary = retrain(settings)
    store, version = open_store(settings.store), summary.version.version
    keys = list(store.list("runs/"))
    assert keys == [f"runs/movie-ranker/{version}/{kind}.json" for kind in ("ncf", "popularity", "ss4rec")]
    kept = {key.split("/")[-1].removesuffix(".json"): json.loads(store.get(key)) for key in keys}
    tracked = {run.name.removeprefix("movie-ranker-"): run for run in read_offline_runs(settings.work_dir)}
    assert set(tracked) == set(kept)
    for kind, record in kept.items():
        run = tracked[kind]
        assert run.exit_code == 0 and run.job == "retrain" and run.group == summary.flow_run
        assert run.summary["version"] == record["version"] == version
        assert run.config["dataset"] == record["plan"]["dataset"] == summary.evaluation.dataset
        assert [row["loss"] for row in run.history] == [report["loss"] for report in record["epochs"]]
        assert run.summary["test/ndcg@10"] == summary.evaluation.metrics[kind]["all"]["ndcg@10"] == record["metrics"]["ndcg@10"]
        assert run.summary["test/ndcg@10/low"] == record["intervals"]["ndcg@10"][0]
    assert kept["ss4rec"]["gate"] == tracked["ss4rec"].summary["gate"] == "promoted"
    assert kept["ncf"]["gate"] is None and "gate" not in tracked["ncf"].summary

    untracked = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"mode": "off"})})
    by_hand = train(untracked)
    record = json.loads(store.get(f"runs/movie-ranker/{by_hand.version}/ss4rec.json"))
    assert record["gate"] is None and record["plan"]["job"] == "train" and len(read_offline_runs(settings.work_dir)) == 3
    assert not trackers._begun


@pytest.mark.full
def test_a_candidate_that_diverges_ends_its_flow_runs_tracking_as_failed(make_settings: Make) -> None:
    models = {**QUICK["models"], "ncf": {**QUICK["models"]["ncf"], "learning_rate": 1e30}}  # type: ignore[dict-item, index]
    settings = make_settings(tracking={"mode": "offline", "timeout_s": 300}, models=models)
    with pytest.raises(TrainingError, match="not finite"):
        retrain(settings)
    assert [(run.name, run.exit_code) for run in read_offline_runs(settings.work_dir)] == [
        ("movie-ranker-ncf", 1), ("movie-ranker-popularity", 1),
    ]  # fmt: skip
    assert not trackers._begun
