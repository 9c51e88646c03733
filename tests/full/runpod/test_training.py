"""A retrain on a CPU work pool whose candidates are trained in a pod: data and models pass through the store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from configs.settings import RetrainSettings
from infra.registry import ModelRegistry
from infra.storage import open_store
from runpod_double.runpod_api import IMAGE
from tests.full.prefect_server.test_prefect_server import RECSYS, settings_of
from tests.full.runpod.rented import World, a_world, wait_until

pytestmark = pytest.mark.full


def deploy(world: World, folder: Path) -> None:
    """Deploy the flow `train` on the pool with GPUs, as prefect.yaml does with train/gpu."""
    variables = {"image": IMAGE, "gpu_types": ["NVIDIA A40"], "env": {"HOME": str(folder)}}
    world.deploy("train", "gpu", "flows/train.py:train", variables)


def test_a_retraining_in_a_pod_survives_the_loss_of_the_pod_promotes_and_knows_its_cost(tmp_path: Path) -> None:
    with a_world(tmp_path / "world") as world:
        deploy(world, tmp_path)
        world.start_worker()
        settings = settings_of(tmp_path, training={"where": "deployment", "poll_s": 0.5, "cost_wait_s": 180})
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
        command = [RECSYS, "retrain", "-c", "run.yaml", "--json", "out.json"]
        with (tmp_path / "retrain.log").open("w") as log:
            process = subprocess.Popen(command, env=world.environment, cwd=tmp_path, stdout=log, stderr=log)
        first = wait_until(lambda: next(iter(world.double.pods.values()), None), 600, "the first pod")
        wait_until(lambda: any("epoch 1" in line.line for line in list(first.lines)), 600, "its first epoch")
        world.double.lose_host(first.id)
        said = (tmp_path / "retrain.log").read_text
        assert process.wait(timeout=1500) == 0, said() + world.log()[-3000:]
        assert "verdict: promoted" in said() and "Trying again" in said()
        wait_until(lambda: not world.double.alive, 180, "the end of the pods")
        pods, summary = list(world.double.pods.values()), json.loads((tmp_path / "out.json").read_text())
        assert len(pods) == 2
        store = open_store(RetrainSettings.model_validate(settings).store)
        registry = ModelRegistry(store)
        lineage = registry.manifest("movie-ranker", summary["version"]["version"])["lineage"]
        assert lineage["cost"] == pytest.approx(sum(pod.usd for pod in pods), abs=pods[0].price * 30 / 3600), (
            "the cost is not that of both pods"
        )
        assert {"train", "take over", "cost"} <= set(summary["durations_s"])
        assert len(registry.versions("movie-ranker")) == 1 and not list(store.list("handed-over/"))
        shown = [a for a in world.post("artifacts/filter", limit=200) if a["key"] == "summary"]
        (told,) = [a["data"] for a in shown if a["flow_run_id"] == summary["flow_run"]]
        assert all(f"pod {pod.id}" in told for pod in pods) and "It cost" in summary["answers"]["cost"]
        assert not world.double.violations
