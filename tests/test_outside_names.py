"""Names that are stored outside of this repository: in Prefect databases, in images of pods and in installed environments.

A server that an earlier version set up starts runs by these names. A change here needs a way from the old name to the new one.
"""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from flows.cli.main import main
from infra.prefect_server import CHAMPION_AGES, DRIFT_DETECTED, DRIFT_WITHOUT_DATA, RETRAINING_DUE, model_resource
from infra.runpod.project import LAUNCHER
from prefect_runpod import RunPodCredentials, RunPodWorker

ROOT = Path(__file__).parents[1]
ENTRYPOINTS = {
    "etl/etl": "flows/etl.py:etl",
    "monitor/monitor": "flows/monitor.py:monitor",
    "retrain/retrain": "flows/retrain.py:retrain",
    "train/train": "flows/train.py:train",
    "train/gpu": "flows.train.train",
    "reap/reap": "flows/reap.py:reap",
    "search/search": "flows/search.py:search",
    "compare/compare": "flows/compare.py:compare",
    "compare-run/compare-run": "flows/compare_run.py:compare_run",
    "replay/replay": "flows/replay.py:replay",
    "promote/promote": "flows/promote.py:promote",
    "rollback/rollback": "flows/rollback.py:rollback",
}


def name_of(entrypoint: str) -> str:
    """Return the name of the flow in a file, or in a module."""
    return load_flow_from_entrypoint(str(ROOT / entrypoint) if ":" in entrypoint else entrypoint).name


@pytest.mark.parametrize(
    ("deployment", "entrypoint"),
    [*ENTRYPOINTS.items(), ("train/gpu", "flows/train.py:train")],  # from a setup before pods imported the flow
)
def test_a_stored_deployment_finds_its_flow(deployment: str, entrypoint: str) -> None:
    assert name_of(entrypoint) == deployment.partition("/")[0]


def test_prefect_yaml_has_the_stored_deployments_and_pools() -> None:
    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert (
        ENTRYPOINTS.items()
        <= {f"{name_of(entry['entrypoint'])}/{entry['name']}": entry["entrypoint"] for entry in entries}.items()
    )
    assert {entry["work_pool"]["name"] for entry in entries} == {"recsys", "recsys-gpu"}
    assert {entry["work_pool"].get("work_queue_name") for entry in entries} == {"urgent", "default", "training", None}


def test_a_pods_image_has_the_launcher_that_orders_name() -> None:
    assert LAUNCHER == ("python", "-m", "infra.runpod.launcher")
    assert '__name__ == "__main__"' in (ROOT / "infra" / "runpod" / "launcher.py").read_text()


def test_an_installation_has_the_command_and_the_worker() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"recsys": "flows.cli.main:main"} and callable(main)
    assert importlib.util.find_spec("flows.cli.__main__"), "python -m flows.cli"
    assert project["entry-points"]["prefect.collections"] == {"recsys_runpod": "infra.runpod"}
    package = tomllib.loads((ROOT / "packages" / "prefect-runpod" / "pyproject.toml").read_text())["project"]
    assert package["entry-points"]["prefect.collections"] == {"prefect_runpod": "prefect_runpod.worker"}
    assert RunPodWorker.type == "runpod" and RunPodWorker.get_worker_class_from_type("runpod") is RunPodWorker


def test_blocks_and_automations_of_a_server_are_found() -> None:
    assert RunPodCredentials.get_block_type_slug() == "runpod-credentials"
    assert (DRIFT_DETECTED, DRIFT_WITHOUT_DATA) == ("recsys.drift.detected", "recsys.drift.without_data")
    assert (RETRAINING_DUE, CHAMPION_AGES) == ("recsys.retraining.due", "recsys.freshness.ends")
    assert model_resource("m")["prefect.resource.id"] == "recsys.model.m"
