"""The documented commands, run from a checkout, train in a pod whose root directory is that of its image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml

from configs.settings import StoreSettings
from infra.prefect_server import EnvironmentSettings
from infra.prefect_server.deployments import deployment_defined, read_prefect_file
from infra.prefect_server.pools import GPU_POOL
from infra.registry import ModelRegistry
from infra.storage import open_store
from runpod_double.runpod_api import ACCOUNT_KEY, IMAGE
from tests.doubles.moto_s3 import moto_s3
from tests.doubles.runpod.other_root import CODE, OtherRoot
from tests.full.prefect_server.test_prefect_server import settings_of
from tests.full.runpod.rented import a_world, wait_until

pytestmark = pytest.mark.full
KEYS = {"aws_access_key_id": "id-of-the-test", "aws_secret_access_key": "secret-of-the-test"}
RECSYS = [sys.executable, "-m", "flows.cli"]
TYPES = ["NVIDIA A40"]


@pytest.fixture
def image(tmp_path: Path) -> OtherRoot:
    if (why := OtherRoot.why_not()) is not None:
        pytest.skip(why)
    return OtherRoot(tmp_path / "image")


LOAD = """
import asyncio, json, os, sys
from prefect.deployments.steps.core import run_steps
from prefect.flows import load_flow_from_entrypoint
entrypoint, pull, checkout = json.loads(sys.argv[1])
assert not os.path.exists(checkout), "the pod sees the checkout"
asyncio.run(run_steps(pull))
print("loaded", load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False).name)
"""


@pytest.mark.nightly  # the next test trains in such a pod by day
def test_a_flow_that_setup_deploys_from_a_checkout_is_found_in_a_pod(image: OtherRoot, tmp_path: Path) -> None:
    entries, pull = read_prefect_file()
    (entry,) = [each for each in entries if each["work_pool"]["name"] == GPU_POOL]
    fields = deployment_defined(entry, pull, EnvironmentSettings()).fields
    given = json.dumps([fields["entrypoint"], fields["pull_steps"], str(CODE)])
    (tmp_path / "disk").mkdir()
    command = image.enter(tmp_path / "disk", ["python", "-c", LOAD, given])
    done = subprocess.run(command, env=image.environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0 and "loaded train" in done.stdout, done.stderr[-2000:]


def test_a_checkout_trains_in_a_pod_that_sees_nothing_of_it(image: OtherRoot, tmp_path: Path) -> None:
    with moto_s3() as endpoint, a_world(tmp_path / "world", root=image) as world:
        store = {"url": "s3://recsys/test", "endpoint_url": endpoint, "region": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **KEYS).create_bucket(Bucket="recsys")
        lines = "\n".join(f"{name} = {value}" for name, value in KEYS.items())
        (tmp_path / "trainer.ini").write_text(f"[default]\n{lines}\n")
        environment = world.environment | {name.upper(): value for name, value in KEYS.items()}

        keys = {"RUNPOD_API_KEY": ACCOUNT_KEY, "AWS_TRAINER_CREDENTIALS_FILE": str(tmp_path / "trainer.ini")}
        given = ["--set", f"pools.gpu_image={IMAGE}", "--set", "schedules=false"]
        done = subprocess.run(
            [*RECSYS, "setup", *given],
            env=environment | keys,
            cwd=CODE,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        deployment = world.ask("GET", "deployments/name/train/gpu").json()
        assert deployment["job_variables"]["image"] == IMAGE
        assert str(CODE) not in json.dumps([deployment["entrypoint"], deployment["pull_steps"], deployment["path"]])
        world.ask(
            "PATCH", f"deployments/{deployment['id']}", json={"job_variables": deployment["job_variables"] | {"gpu_types": TYPES}}
        )

        world.start_worker("gpu-1", "recsys-gpu")
        settings = settings_of(tmp_path, store=store, training={"where": "deployment", "poll_s": 0.5, "cost_wait_s": 180})
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
        command = [*RECSYS, "retrain", "-c", str(tmp_path / "run.yaml"), "--json", str(tmp_path / "out.json")]
        with (tmp_path / "retrain.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, cwd=CODE, stdout=log, stderr=log)
            try:
                status = process.wait(timeout=1500)
            finally:
                process.kill()
        said = (tmp_path / "retrain.log").read_text()
        lines_of_pods = [line.line for pod in world.double.pods.values() for line in pod.lines]
        assert status == 0 and "verdict: promoted" in said, f"{said[-3000:]}\n{lines_of_pods[-40:]}\n{world.log()[-3000:]}"
        wait_until(lambda: not world.double.alive, 180, "the end of the pods")
        assert len(world.double.pods) == 1 and not world.double.violations
        summary = json.loads((tmp_path / "out.json").read_text())
        keys_of_store = {name.removeprefix("aws_"): value for name, value in KEYS.items()}
        registry = ModelRegistry(open_store(StoreSettings.model_validate({**store, **keys_of_store})))
        assert registry.manifest("movie-ranker", summary["version"]["version"])["lineage"]["cost"] > 0
