"""Drift as users meet it: a monitoring run on a real Prefect server starts a retraining, and Evidently's own UI shows the snapshots."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml

from tests import synthetic
from tests.flows.conftest import QUICK
from tests.full.prefect_server.prefect_process import ROOT, ask, prefect_server, process, request, run, wait_until
from tests.ports import reserved_port

pytestmark = pytest.mark.full
RECSYS = str(Path(sys.executable).with_name("recsys"))
PREFECT = str(Path(sys.executable).with_name("prefect"))
EVIDENTLY = str(Path(sys.executable).with_name("evidently"))
SETUP = """
import sys
from infra.prefect_server.alerts import retrain_when_due
found = retrain_when_due("movie-ranker", parameters={"settings": {"model_name": "movie-ranker"}}, enabled=sys.argv[1] == "on")
print(found.id)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield {**environment, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def watched(server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a champion and a later dataset version, whose last part gives all films one star."""
    folder = tmp_path_factory.mktemp("watched")
    base = synthetic.interactions(80, 40, 25)
    path = synthetic.write_csv(folder / "data", base)
    settings: dict[str, Any] = {
        **QUICK,
        "data": {"local_path": str(path), "cache_dir": str(folder / "cache")},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
        "monitoring": {"workspace": str(folder / "evidently"), "drawn_rows": 500, "live_requests": 200},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    done = run([RECSYS, "retrain", "-c", "run.yaml"], server, folder)
    assert done.returncode == 0, done.stderr
    more = synthetic.interactions(60, 40, 25, seed=5).assign(rating=1)
    more["user_id"] += 1000
    more["timestamp"] += int(base["timestamp"].max()) - int(more["timestamp"].min()) + 60
    synthetic.write_csv(folder / "data", pd.concat([base, more]))
    assert run([RECSYS, "etl", "-c", "run.yaml"], server, folder).returncode == 0
    return folder


def automations(server: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(server, "automations/filter")
    return [automation for automation in found if automation["name"] == "retrain movie-ranker when due"]


def test_drift_that_monitoring_finds_starts_a_retrain_run(server: dict[str, str], watched: Path) -> None:
    missing = run([sys.executable, "-c", SETUP, "on"], server, ROOT)
    assert missing.returncode == 1 and "no deployment retrain/retrain" in missing.stderr
    assert run([PREFECT, "work-pool", "create", "recsys", "--type", "process"], server, ROOT).returncode == 0
    deployed = run([PREFECT, "--no-prompt", "deploy", "--name", "retrain"], server, ROOT)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    made = [run([sys.executable, "-c", SETUP, state], server, ROOT) for state in ("off", "on", "on")]
    assert {done.returncode for done in made} == {0}, made[0].stderr
    assert len({done.stdout for done in made}) == 1 and len(automations(server)) == 1 and automations(server)[0]["enabled"]

    found = run([RECSYS, "monitor", "-c", "run.yaml", "--json", "drift.json"], server, watched)
    assert found.returncode == 0, found.stderr
    result = json.loads((watched / "drift.json").read_text())
    assert result["verdict"] == "drifted" and "rating" in [c["name"] for c in result["checks"] if c["verdict"] == "drifted"]
    assert result["champion"] and result["live"]["live"]["requests"] == 200 and "live NDCG@10" in found.stdout

    def started() -> Any:
        runs = ask(server, "flow_runs/filter", deployments={"name": {"any_": ["retrain"]}})
        return [run for run in runs if not run["auto_scheduled"]]  # the deployment has a schedule too

    runs = wait_until(started, 900)
    assert len(runs) == 1 and runs[0]["parameters"] == {"settings": {"model_name": "movie-ranker"}}
    # The server stores events a moment after it has acted on them.
    seen = wait_until(lambda: ask(server, "events/filter", filter={"event": {"name": ["recsys.drift.detected"]}})["events"], 900)
    assert len(seen) == 1 and seen[0]["resource"]["prefect.resource.id"] == "recsys.model.movie-ranker"
    assert "rating" in seen[0]["payload"]["drifted"] and seen[0]["payload"]["checks"]["rating"]["p_value"] <= 0.01
    assert seen[0]["payload"]["dataset"] == result["dataset"] and seen[0]["payload"]["champion"] == result["champion"]
    keys = {artifact["key"] for artifact in ask(server, "artifacts/filter", limit=100)}
    assert {"drift", "retraining"} <= keys


@pytest.mark.nightly  # test_planted_text.py opens it by day
def test_evidentlys_own_ui_shows_the_snapshots(server: dict[str, str], watched: Path) -> None:
    assert run([RECSYS, "monitor", "-c", "run.yaml"], server, watched).returncode == 0
    port = reserved_port()
    command = [EVIDENTLY, "ui", "--workspace", str(watched / "evidently"), "--port", str(port)]
    environment = {**os.environ, "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1,localhost"}
    address = f"http://127.0.0.1:{port}"
    with process(command, environment, watched / "ui.log", watched) as shown:

        def projects() -> Any:
            try:
                return httpx.get(f"{address}/api/projects", timeout=60).raise_for_status().json()
            except httpx.HTTPError:
                assert shown.poll() is None, (watched / "ui.log").read_text()
                return None

        found = wait_until(projects, 600)
        assert [project["name"] for project in found] == ["movie-ranker"]
        kept = request("GET", f"{address}/api/projects/{found[0]['id']}/snapshots").raise_for_status().json()
        assert len(kept) >= 2, "a snapshot of the retraining or of the monitoring is missing"
        page = f"{address}/api/projects/{found[0]['id']}/{kept[-1]['id']}/data"
        assert "log_gap" in request("GET", page).raise_for_status().text
        assert "<html" in request("GET", address).raise_for_status().text
