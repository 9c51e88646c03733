"""How the server is started."""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from uvicorn.importer import import_from_string

from configs.serving import ServingSettings
from flows.cli.main import app
from serving import run, supervisor
from serving.api import app as api
from serving.api.connections import BoundedProtocol
from tests.ports import reserved_port


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that uvicorn would have been started with, and the environment at that moment."""
    found: dict[str, Any] = {}

    def take(application: str, **options: Any) -> None:
        found.update(options, app=application, environment=dict(os.environ))

    monkeypatch.setattr(supervisor, "run_server", take)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return found


def test_the_command_passes_all_its_options_to_the_workers(started: dict[str, Any], tmp_path: Path) -> None:
    port = reserved_port()
    given = ["serve", "--workers", "3", "--port", str(port), "--redis", "redis://there:6379/2", "--set", "batch.requests=7"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    settings = ServingSettings.model_validate_json(started["environment"][api.SETTINGS])
    assert (settings.workers, settings.port, settings.redis.url, settings.batch.requests) == (3, port, "redis://there:6379/2", 7)
    assert (started["app"], started["workers"], started["port"]) == ("serving.api.app:from_environment", 3, port)
    assert started["timeout_graceful_shutdown"] == settings.shutdown_s
    metrics = started["environment"]["PROMETHEUS_MULTIPROC_DIR"]
    assert not Path(metrics).exists()  # it is removed with the server


def test_one_worker_keeps_its_metrics_in_memory(started: dict[str, Any]) -> None:
    run.serve(ServingSettings(port=reserved_port()))
    assert "PROMETHEUS_MULTIPROC_DIR" not in started["environment"]


def test_a_worker_is_made_from_its_environment_and_logs_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ServingSettings.model_validate({"store": {"url": f"file:{tmp_path}"}, "work_dir": str(tmp_path / "w")})
    monkeypatch.setenv(api.SETTINGS, run.as_json(settings))
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        made = api.from_environment()
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logging.getLogger("serving").exception("it failed", extra={"version": "v1"})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    made.state.worker.close()
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["message"] == "it failed" and line["version"] == "v1" and "ZeroDivisionError" in line["traceback"]


def test_garbage_collection_is_off_while_a_single_worker_imports_and_on_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(supervisor, "run_server", lambda *_, **__: seen.append(gc.isenabled()))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    run.serve(ServingSettings(port=reserved_port()))
    run.serve(ServingSettings(port=reserved_port(), workers=2))
    assert seen == [False, True] and gc.isenabled()
    monkeypatch.setenv(api.SETTINGS, run.as_json(ServingSettings()))
    gc.disable()
    api.from_environment()
    assert gc.isenabled()


def test_a_forwarded_address_is_believed_only_from_configured_proxies(started: dict[str, Any]) -> None:
    run.serve(ServingSettings(port=reserved_port()))
    assert started["proxy_headers"] is False and started["ws"] == "none"
    run.serve(ServingSettings.model_validate({"port": reserved_port(), "limits": {"trusted_proxies": ["10.0.3.0/24", "::1"]}}))
    assert started["proxy_headers"] is True and started["forwarded_allow_ips"] == ["10.0.3.0/24", "::1"]
    assert import_from_string(started["http"]) is BoundedProtocol


def test_connections_leave_file_descriptors_for_the_rest_of_the_worker(
    started: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(1024, 8192), (100_000, 100_000), (1024, 1100), (1024, resource.RLIM_INFINITY)]
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: found.append(wanted))
    for each in limits:
        monkeypatch.setattr(resource, "getrlimit", lambda _, each=each: each)
        run.serve(ServingSettings(port=reserved_port()))
    assert found == [(4608, 8192), (1100, 1100), (4608, resource.RLIM_INFINITY)]
