"""Runs in MLflow. What needs the package is skipped without it: `pip install mlflow-skinny sqlalchemy alembic`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.serving.world import wait_for
from configs.settings import TrackingSettings
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.tracking import mirror_champion, services, start_tracking
from tests.planted import PLANTED
from tests.tasks.stored import NAME, NOW, sealed
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


def registry_settings(uri: str) -> TrackingSettings:
    return TrackingSettings(mode="off", mlflow_uri=uri, mlflow_registry=True, timeout_s=300)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run MLflow's own server on SQLite until the end of the block, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/health", timeout=2).read(), process, 300)
        yield address
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself, and what was raised says so
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def promoted(tmp_path: Path) -> tuple[LocalStore, list[str]]:
    """A store in which two versions were promoted, one after the other, and their names."""
    store = LocalStore(tmp_path / "store")
    first, second = (sealed(store, tmp_path / name, seed) for name, seed in (("one", 1), ("two", 2)))
    for number, ref in enumerate((first, second)):
        ModelRegistry(store).promote(NAME, ref.version, expected=number, reason="better", now=NOW + timedelta(days=number))
    return store, [first.version, second.version]


@pytest.mark.full
@needs_mlflow
@pytest.mark.parametrize("kind", ["database", pytest.param("server", marks=pytest.mark.nightly)])
def test_the_registry_names_the_champion_and_the_previous_one_after_each_promotion_and_rollback(
    kind: str, promoted: tuple[LocalStore, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if kind == "server" and find_spec("flask") is None:
        pytest.skip("MLflow's server is not installed: pip install mlflow")
    store, (first, second) = promoted
    with ExitStack() as stack:
        uri = f"sqlite:///{tmp_path}/mlflow.db" if kind == "database" else stack.enter_context(mlflow_server(tmp_path))
        settings, client = registry_settings(uri), MlflowClient(tracking_uri=uri, registry_uri=uri)

        def aliased() -> dict[str, str]:
            found = {}
            for alias in ("champion", "previous"):
                with suppress(MlflowException):
                    found[alias] = client.get_model_version_by_alias(NAME, alias).tags["recsys_version"]
            return found

        for _ in range(2):  # the second time changes nothing
            mirror_champion(store, NAME, settings, LOG)
            assert aliased() == {"champion": second, "previous": first}, warnings(caplog)
            assert len(client.search_model_versions(f"name='{NAME}'")) == 2
        ModelRegistry(store).promote(NAME, first, expected=2, kind="rollback", reason="worse", now=NOW + timedelta(days=3))
        mirror_champion(store, NAME, settings, LOG)
        assert aliased() == {"champion": first}
        version = client.get_model_version_by_alias(NAME, "champion")
        assert version.tags["kind"] == "popularity" and version.source == f"recsys:///models/{NAME}/{first}"
    assert warnings(caplog) == []


def test_a_registry_that_fails_gives_one_warning(
    promoted: tuple[LocalStore, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[object] = []
    monkeypatch.setattr("tasks.tracking.mirror.register_in_mlflow", lambda given, settings, log: sent.append(given))
    store, (first, _) = promoted
    mirror_champion(store, NAME, TrackingSettings(mlflow_uri="sqlite:///x.db"), LOG)
    assert not sent, "nobody asked for the mirror"
    manifest = tmp_path / "store" / "models" / NAME / first / "manifest.json"
    manifest.chmod(0o600)
    manifest.write_bytes(b"{}")
    mirror_champion(store, NAME, registry_settings("sqlite:///x.db"), LOG)
    assert not sent and "not mirrored" in warnings(caplog)[0]
