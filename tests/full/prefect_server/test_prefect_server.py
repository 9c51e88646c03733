"""The product as its users run it: a Prefect server, a worker, deployments, and the command, each in its own process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import synthetic
from tests.flows.conftest import LEAN
from tests.full.prefect_server.prefect_process import PREFECT, ROOT, ask, prefect_server, process, read, run, wait_until

pytestmark = pytest.mark.full
RECSYS = str(Path(sys.executable).with_name("recsys"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run a Prefect server, and yield the environment that names it."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


def settings_of(folder: Path, **changes: Any) -> dict[str, Any]:
    path = synthetic.write_csv(folder / "data", synthetic.interactions(80, 40, 25))
    places = {
        "data": {"local_path": str(path), "cache_dir": str(folder / "cache")},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
    }
    return {**LEAN, **places, **changes}


def test_a_commands_run_appears_on_the_server_that_prefect_api_url_names(server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings_of(tmp_path)))
    done = run([RECSYS, "retrain", "-c", "run.yaml", "--json", "out.json"], server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verdict: promoted" in done.stdout
    summary = json.loads((tmp_path / "out.json").read_text())
    flow_run = read(server, f"flow_runs/{summary['flow_run']}")
    assert flow_run["state_type"] == "COMPLETED"
    assert flow_run["parameters"]["settings"]["models"]["ss4rec"]["width"] == LEAN["models"]["ss4rec"]["width"]  # type: ignore[index]
    artifacts = {artifact["key"]: artifact for artifact in ask(server, "artifacts/filter", limit=100)}
    assert {"summary", "data", "drift", "metrics", "gate"} == {key for key in artifacts if key}
    assert "](data:image/png;base64," in artifacts["summary"]["data"]
    assert "## ✓ Promoted" in artifacts["gate"]["data"] and flow_run["state_name"] == "Promoted"


@pytest.mark.nightly  # tests/full/prefect_server/test_local_stack.py has a deployed retraining, too
def test_a_deployed_retrain_runs_on_a_worker(server: dict[str, str], tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "flows.cli", "setup", "--set", "schedules=false"], server, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {deployment["name"] for deployment in ask(server, "deployments/filter")}
    studies = {"search", "compare", "compare-run", "replay"}
    assert names == {"etl", "monitor", "train", "retrain", "resume", "promote", "rollback", "export"} | studies
    with process([PREFECT, "worker", "start", "--pool", "recsys"], server, tmp_path / "worker.log"):
        parameters = json.dumps({"settings": settings_of(tmp_path)})
        started = run([PREFECT, "deployment", "run", "retrain/retrain", "--params", parameters], server, ROOT)
        assert started.returncode == 0, started.stdout + started.stderr

        def ended() -> Any:
            runs = ask(server, "flow_runs/filter", deployments={"name": {"any_": ["retrain"]}})
            return [r for r in runs if r["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]

        assert wait_until(ended, 1800)[0]["state_type"] == "COMPLETED", (tmp_path / "worker.log").read_text()[-3000:]
    assert (tmp_path / "store" / "promotions" / "movie-ranker" / "00000001.json").exists()


@pytest.mark.nightly  # tests/flows/test_retrain.py shows this with two processes fewer
def test_a_retrain_that_was_killed_in_training_ends_with_the_same_metrics(server: dict[str, str], tmp_path: Path) -> None:
    models = {**LEAN["models"], "ss4rec": {**LEAN["models"]["ss4rec"], "max_epochs": 12, "patience": 12}}  # type: ignore[dict-item, index]
    results = []
    for name, killed in (("whole", False), ("killed", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.yaml").write_text(yaml.safe_dump(settings_of(folder, models=models)))
        command = [RECSYS, "retrain", "--verbose", "-c", "run.yaml", "--json", "out.json"]
        if killed:
            process = subprocess.Popen(
                command, env=server, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            assert process.stderr is not None
            for line in process.stderr:
                if "ss4rec epoch 4 of" in line:
                    process.kill()
            assert process.wait() == -signal.SIGKILL
            assert not (folder / "out.json").exists() and not (folder / "store" / "models").exists()
        assert run(command, server, folder).returncode == 0
        results.append(json.loads((folder / "out.json").read_text()))
    evaluation = Path(results[1]["version"]["uri"].removeprefix("file://")) / "evaluation.json"
    assert json.loads(evaluation.read_text())["training"]["ss4rec"]["resumed_from"] >= 3
    assert results[0]["evaluation"]["metrics"] == results[1]["evaluation"]["metrics"]


@pytest.mark.nightly  # tests/flows/test_retrain.py shows this in one process
def test_of_two_retrains_at_once_the_second_is_refused(server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings_of(tmp_path)))
    command = [RECSYS, "retrain", "-c", "run.yaml"]
    first = subprocess.Popen(command, env=server, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lock = tmp_path / "work" / "movie-ranker.lock"

    def held() -> bool:
        assert first.poll() is None, "it ended before it held the lock"
        return lock.exists() and lock.read_text() == f"{first.pid}\n"

    wait_until(held, 400)
    first.send_signal(signal.SIGSTOP)  # it holds the lock until the second one has tried to get it
    try:
        second = run(command, server, tmp_path)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert f"Another run of movie-ranker is under way (process {first.pid}" in second.stderr
    assert first.wait(timeout=1800) == 0
