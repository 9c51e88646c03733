"""Runs in MLflow. What needs the package is skipped without it: `pip install mlflow-skinny sqlalchemy alembic`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from configs.settings import TrackingSettings
from tasks.tracking import services, start_tracking
from tests.planted import PLANTED
from tests.tasks.tracking.test_tracker import EPOCHS, LOG, plan_of, record_of, warnings

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without the failures of earlier tests."""
    monkeypatch.setattr(services, "_given_up", set())
    yield


def settings_of(uri: str, timeout_s: float = 300) -> TrackingSettings:
    return TrackingSettings(mode="off", project="films", tags=("nightly",), mlflow_uri=uri, timeout_s=timeout_s)


@pytest.mark.full
@needs_mlflow
def test_mlflow_is_sent_what_the_record_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    plan = replace(plan_of(), settings={**plan_of().settings, "planted": list(PLANTED), "long": "x" * 9000})
    tracker = start_tracking(plan, settings_of(uri), tmp_path, LOG)
    tracker.epoch(EPOCHS[0])
    tracker.end(record_of(plan))
    failed = start_tracking(plan_of("failed"), settings_of(uri), tmp_path, LOG)
    failed.end(None)
    assert warnings(caplog) == []
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("films")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    run = runs["ncf-1"]
    assert (run.info.status, runs["failed"].info.status) == ("FINISHED", "FAILED")
    history = client.get_metric_history(run.info.run_id, "valid/ndcg_at_10")
    assert sorted((point.step, point.value) for point in history) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.metrics["test/ndcg_at_10"] == 0.1 and run.data.metrics["test/coverage_at_10"] == 0.5
    assert (run.data.tags["kind"], run.data.tags["gate"], run.data.tags["version"]) == ("ncf", "held", "v1")
    assert run.data.params["seed"] == "1" and PLANTED[0][:8] in run.data.params["planted"]
    assert len(run.data.params["long"]) < 9000
    kept = (tmp_path / "mlflow.db").read_bytes()
    assert b"hush" not in kept and b"AKIAXYZ" not in kept


def test_an_mlflow_that_fails_gives_one_warning_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uri = "https://me:hush@mlflow.example.org/x"
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text(f"def MlflowClient(tracking_uri): raise OSError('no luck at {uri}')\n")
    (tmp_path / "mlflow" / "entities.py").write_text("Metric = Param = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("one", "two"):
        start_tracking(plan_of(name), settings_of(uri), tmp_path, LOG).end(record_of(plan_of(name)))
    (said,) = warnings(caplog)
    assert said.startswith("MLflow failed") and "no luck at https://mlflow.example.org/x" in said and "hush" not in said


def test_a_missing_mlflow_is_mentioned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    caplog.set_level(logging.INFO)
    for name in ("one", "two"):
        start_tracking(plan_of(name), settings_of("sqlite:///x.db"), tmp_path, LOG).end(record_of(plan_of(name)))
    (said,) = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert "mlflow is not installed" in said and not list(tmp_path.iterdir())
