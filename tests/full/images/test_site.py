"""A whole environment on a machine that has only the images and compose's file: a scheduled retraining, its promotion, both replicas behind
the proxy, the demo in a browser, alerts, backups from which the champion is restored, and a pod's training.

`RECSYS_SHOTS` names a folder for pictures of the demo.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Page, expect

from configs.settings import StoreSettings
from infra.images.running import Unpacked
from infra.local_stack.stack import Running, local_stack
from infra.prefect_server.pod_credentials import read_credentials
from infra.registry import ModelRegistry
from infra.storage import Store, open_store
from tests import synthetic
from tests.doubles.live_prefect import wait_until
from tests.flows.conftest import QUICK
from tests.full.deployment.alerting import alerting
from tests.full.images.started import PATIENCE_S, VOLUME, give_to_the_image, once

pytestmark = pytest.mark.full
SERVICES = ["worker", "demo", "exporter", "backup"]
BACKUPS = "s3://recsys/backups"
NAME = "movie-ranker"
POD_IMAGE = f"example.invalid/recsys-train@sha256:{'0' * 64}"  # nothing is rented: a test starts the pod's container itself
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture(scope="module")
def stack(image: Callable[[str], Unpacked]) -> Iterator[Running]:
    for name in ("recsys-serve", "recsys-demo", "recsys-worker"):
        image(name)
    folder = Path(tempfile.mkdtemp(prefix="recsys-site-"))
    (folder / "secrets").mkdir()
    (folder / "secrets" / "runpod_api_key").write_text("nobody's key")
    with pytest.MonkeyPatch.context() as given:
        given.setenv("RECSYS_BACKUPS", BACKUPS)
        with local_stack(folder, SERVICES, s3=True, images=True, usual_ports=False, tell=lambda line: None) as running:
            yield running
    shutil.rmtree(folder)


def inside(stack: Running, service: str, *command: str) -> str:
    """Return what a command prints in the container of a service, with the service's secrets."""
    assert stack.containers is not None
    started = ["runc", "exec", stack.containers.names[service], "/app/infra/docker/with-secrets", *command]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def keys_of(stack: Running, role: str) -> dict[str, str]:
    return read_credentials((stack.layout.folder / "secrets" / role).read_text())


def store_of(stack: Running, url: str = "s3://recsys/production") -> Store:
    """Return a store of the environment, with the rights of an administrator."""
    given = {name.removeprefix("aws_"): value for name, value in keys_of(stack, "aws_worker").items()}
    return open_store(StoreSettings.model_validate({"url": url, "endpoint_url": stack.layout.s3_endpoint, **given}))


def prefect(stack: Running) -> httpx.Client:
    user, _, password = (stack.layout.folder / "secrets" / "prefect_auth").read_text().partition(":")
    return httpx.Client(base_url=f"{stack.url('prefect')}/api", auth=(user, password), timeout=90)


@pytest.fixture(scope="module")
def champion(stack: Running) -> str:
    """Let the schedule start a retraining in the worker's image, and return the version that it promotes."""
    work = stack.layout.folder / "var" / "work"
    synthetic.write_csv(work / "data", synthetic.interactions(80, 40, 25))
    site = {
        "retraining": {
            **QUICK,
            "data": {"local_path": f"{VOLUME}/data/ratings.csv"},
            "store": {"endpoint_url": stack.layout.s3_endpoint},
            "promotion": {**QUICK["promotion"], "approval": "automatic"},  # type: ignore[dict-item]
        },
        "crons": {"retrain/retrain": "* * * * *"},
        "pools": {"gpu_image": POD_IMAGE},
    }
    (work / "site.yaml").write_text(yaml.safe_dump(site))
    give_to_the_image(work / "data")
    inside(stack, "worker", "recsys", "setup", "-c", "production", "-c", f"{VOLUME}/site.yaml")

    with prefect(stack) as server:
        deployment = server.get("/deployments/name/retrain/retrain").raise_for_status().json()
        wanted = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": {"type": {"any_": list(ENDED)}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }

        def ended() -> Any:
            return server.post("/flow_runs/filter", json=wanted).raise_for_status().json()

        run = wait_until(ended, 1800, "the end of a scheduled retraining")[0]
        (schedule,) = deployment["schedules"]
        server.patch(f"/deployments/{deployment['id']}/schedules/{schedule['id']}", json={"active": False}).raise_for_status()
    assert run["auto_scheduled"] and run["state_name"] == "Promoted", run["state"]["message"]
    return ModelRegistry(store_of(stack)).history(NAME)[0].version


def test_a_scheduled_retraining_is_promoted_and_both_replicas_serve_it(stack: Running, champion: str) -> None:
    for replica in ("api-1", "api-2"):
        wait_until(lambda replica=replica: ready(stack, replica), PATIENCE_S, replica)  # type: ignore[misc]
    question = {"history": [{"item_id": 1, "time": synthetic.START}, {"item_id": 2, "time": synthetic.START + 60}], "k": 5}
    answer = httpx.post(f"{stack.url('proxy')}/v1/recommendations", json=question, timeout=90).raise_for_status().json()
    assert answer["version"] == champion and len(answer["items"]) == 5


def ready(stack: Running, replica: str) -> bool:
    return httpx.get(f"{stack.url(replica)}/readyz", timeout=60).status_code == 200


def test_the_demo_shows_what_the_champion_recommends(stack: Running, champion: str, page: Page) -> None:
    page.goto(stack.url("demo"))
    expect(page.get_by_role("heading", level=1)).to_have_text("What comes next", timeout=PATIENCE_S * 1000)
    expect(page.locator(".item")).to_have_count(10, timeout=PATIENCE_S * 1000)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)
    if folder := os.environ.get("RECSYS_SHOTS"):
        page.screenshot(path=f"{folder}/demo-image.png")
    for path in ("latest", "compare", "live", "pipeline", "drift", "experiments"):
        page.goto(f"{stack.url('demo')}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_S * 1000)
        expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
        expect(page.locator("[data-testid=stException]")).to_have_count(0)


def test_the_exporter_tells_of_the_environment(stack: Running, champion: str) -> None:
    def told() -> bool:
        return f'promoted_timestamp_seconds{{model="{NAME}"}}' in httpx.get(f"{stack.url('exporter')}/metrics", timeout=120).text

    wait_until(told, PATIENCE_S, "the champion among the metrics")


def test_the_champion_is_restored_from_the_backups_that_were_made(stack: Running, champion: str) -> None:
    made = stack.log("backup")
    wait_until(lambda: all(word in made.read_text() for word in ("copied", "dumped", "saved")), PATIENCE_S, "all backups")
    endpoint = ["--endpoint-url", str(stack.layout.s3_endpoint)]
    backups = ["--backups", BACKUPS, *endpoint]
    inside(stack, "backup", "python", "-m", "infra.backup", "store", "s3://recsys/production", *backups)
    said = inside(stack, "backup", "python", "-m", "infra.backup", "restore-store", "s3://recsys/restored", *backups)
    assert "objects were restored" in said
    restored, lost = (ModelRegistry(store_of(stack, url)) for url in ("s3://recsys/restored", "s3://recsys/production"))
    assert [entry.version for entry in restored.history(NAME)] == [entry.version for entry in lost.history(NAME)]
    assert restored.manifest(NAME, champion) == lost.manifest(NAME, champion)


def test_a_pod_trains_two_epochs_and_hands_the_model_over(
    stack: Running, champion: str, image: Callable[[str], Unpacked], place: Path
) -> None:
    pod = image("recsys-train")
    with prefect(stack) as server:
        deployment = server.get("/deployments/name/train/gpu").raise_for_status().json()
        settings = deployment["parameters"]["settings"]
        models = {kind: {**entry, "max_epochs": 2} for kind, entry in settings["models"].items() if kind == "ss4rec"}
        asked = {"settings": {**settings, "models": {**models, "ncf": None}}, "hand_over": True}
        path = f"/deployments/{deployment['id']}/create_flow_run"
        run = server.post(path, json={"parameters": asked}).raise_for_status().json()
        environment = {
            "PREFECT_API_URL": f"{stack.url('prefect')}/api",
            "PREFECT_API_AUTH_STRING": (stack.layout.folder / "secrets" / "prefect_auth").read_text(),
            "PREFECT__FLOW_RUN_ID": run["id"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1,localhost",
            **{name.upper(): value for name, value in keys_of(stack, "aws_trainer").items()},
        }
        said = once(pod, place, environment=environment)
        ended = server.get(f"/flow_runs/{run['id']}").raise_for_status().json()
    assert ended["state_name"] == "Handed over", f"{ended['state']['message']}\n{said}"
    assert "epoch 2" in said and "epoch 3" not in said, said
    assert list(store_of(stack).list(f"handed-over/{run['id']}")), "the model is not in the store"


def test_an_alert_about_a_replica_that_died_arrives_and_so_does_its_end(stack: Running, champion: str, tmp_path: Path) -> None:
    services = {"api-1": 8000, "api-2": 8000, "prefect": 4200, "exporter": 9400}
    ports = {f"{name}:{usual}": stack.layout.ports[name] for name, usual in services.items()}
    with alerting(tmp_path, ports, ["api", "prefect", "exporter"], stack.layout.folder / "secrets") as alerts:
        wait_until(lambda: list(alerts.targets().values()) == ["up"] * len(services), PATIENCE_S, "figures of every service")

        def about_it(alert: dict[str, Any]) -> bool:
            place = f"127.0.0.1:{stack.layout.ports['api-2']}"
            return alert["labels"]["alertname"] == "ApiDown" and alert["labels"]["instance"] == place

        assert stack.containers is not None
        subprocess.run(["runc", "kill", stack.containers.names["api-2"], "KILL"], check=True)
        stack.processes["api-2"].wait()
        assert alerts.arrived("firing", about_it)["annotations"]["runbook_url"].endswith("#apidown")
        stack.start("api-2")
        alerts.arrived("resolved", about_it)
