"""Comparisons whose runs happen elsewhere: on a Dask cluster, or as runs of a deployment on a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from configs.studies import CompareSettings
from tests import synthetic
from tests.full.prefect_server.prefect_process import PREFECT, ROOT, ask, run
from tests.full.prefect_server.test_prefect_server import RECSYS, server
from tests.tasks.compared import ENTRIES, TINY_NCF, small_comparison

__all__ = ["server"]

pytestmark = pytest.mark.full
Environment = dict[str, str]


def config_of(folder: Path, **changes: object) -> CompareSettings:
    synthetic.write_csv(folder / "data", synthetic.interactions(60, 40, 25))
    settings = small_comparison(folder, max_parallel=2, **changes)
    (folder / "compare.yaml").write_text(yaml.safe_dump(json.loads(settings.model_dump_json(exclude_defaults=True))))
    return settings


def runs_in(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "store" / "comparisons" / "small" / "runs").glob("*.json")}


@pytest.mark.nightly  # test_dask_engine.py shows by day that a cluster does what one process does
def test_runs_go_to_a_dask_cluster(server: Environment, tmp_path: Path) -> None:
    config_of(tmp_path, runner="dask", seeds=[1, 2])
    done = run([RECSYS, "study", "compare", "-c", "compare.yaml", "--json", "out.json", "--verbose"], server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Creating a new Dask cluster" in done.stderr
    assert runs_in(tmp_path) == {"popularity-1", "ncf-1", "ncf-2", "ss4rec-1", "ss4rec-2"}
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["entries"]) == 3 and len(found["matrix"]) == 6 and not found["failures"]


@pytest.mark.nightly  # tests/flows/test_compare.py compares by day
def test_runs_can_be_those_of_a_deployment_and_pass_through_the_store(server: Environment, tmp_path: Path) -> None:
    wild = {"name": "wild", "kind": "ncf", "settings": {**TINY_NCF, "learning_rate": 1e30}}
    config_of(tmp_path, runner="deployments", entries=[*ENTRIES[:2], wild], reference="ncf")
    assert run([PREFECT, "work-pool", "create", "recsys", "--type", "process"], server, ROOT).returncode == 0
    deployed = run([PREFECT, "--no-prompt", "deploy", "--name", "compare-run/compare-run"], server, ROOT)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen([PREFECT, "worker", "start", "--pool", "recsys"], env=server, stdout=log, stderr=log, cwd=ROOT)
        try:
            done = run([RECSYS, "study", "compare", "-c", "compare.yaml", "--json", "out.json"], server, tmp_path)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(timeout=600)
    assert done.returncode == 1, done.stderr
    failure = done.stderr[done.stderr.rindex("error: ") :]
    assert "wild seed 1" in failure and "are not finite" in failure, failure
    assert runs_in(tmp_path) == {"popularity-1", "ncf-1"}, (tmp_path / "worker.log").read_text()[-3000:]
    found = json.loads((tmp_path / "out.json").read_text())
    assert [failed["entry"] for failed in found["failures"]] == ["wild"] and len(found["entries"]) == 2
    deployed_runs = ask(server, "flow_runs/filter", deployments={"name": {"any_": ["compare-run"]}})
    assert sorted(r["state_type"] for r in deployed_runs) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert "secret_access_key" not in json.dumps([r["parameters"] for r in deployed_runs])


@pytest.mark.nightly  # tests/flows/test_compare.py shows this without the kill
def test_a_comparison_that_was_killed_goes_on_with_what_is_missing(server: Environment, tmp_path: Path) -> None:
    config_of(tmp_path, entries=ENTRIES[:2], reference="ncf", seeds=[1, 2, 3])
    command = [RECSYS, "study", "compare", "--verbose", "-c", "compare.yaml", "--json", "out.json", "--set", "max_parallel=1"]
    process = subprocess.Popen(command, env=server, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "ncf seed 2 epoch 1 of" in line:
            process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "comparisons").rglob("runs/*")}
    assert {"popularity-1", "ncf-1"} <= runs_in(tmp_path) and "ncf-3" not in runs_in(tmp_path)
    assert run(command, server, tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert runs_in(tmp_path) == {"popularity-1", "ncf-1", "ncf-2", "ncf-3"}
    assert not os.listdir(tmp_path / "work" / "comparisons" / "small")
