"""Every service of infra/compose.yaml as a process: a deployed retraining on PostgreSQL and S3, served behind the proxy, and no
secret in what any of them writes."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local_stack.services import read_services
from infra.local_stack.stack import Running, local_stack
from tests import synthetic
from tests.doubles.live_prefect import request, wait_until
from tests.flows.conftest import LEAN
from tests.infra.test_production_files import exporter_metrics, expressions

pytestmark = pytest.mark.full
PLANTED = {
    "discord_webhook_url": "https://discord.com/api/webhooks/1234567890/planted-webhook-token",
    "runpod_api_key": "planted-runpod-key",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="recsys-stack-"))  # PostgreSQL, which runs as another user, can enter this folder
    (folder / "secrets").mkdir()
    for name, value in PLANTED.items():
        (folder / "secrets" / name).write_text(value)
    # There is nothing to rent here.
    names = [service.name for service in read_services() if service.name != "worker-runpod" and not service.asked]
    with local_stack(folder, names, s3=True, tell=lambda line: None) as running:
        yield running
    assert all(process.poll() is not None for process in running.processes.values())
    assert left_over(folder) == [], "a service left a process behind"
    shutil.rmtree(folder)


def left_over(folder: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command and "pytest" not in command:
            found.append(command)
    return found


def prefect(stack: Running) -> httpx.Client:
    user, password = (stack.layout.folder / "secrets" / "prefect_auth").read_text().split(":")
    return httpx.Client(base_url=f"{stack.url('prefect')}/api", auth=(user, password), timeout=90)


def test_a_deployed_retraining_is_served_by_both_replicas_and_one_of_them_may_die(stack: Running, tmp_path: Path) -> None:
    path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 25))
    refused = request("POST", f"{stack.url('prefect')}/api/deployments/filter", json={})
    assert refused.status_code == 401, "the server is open to all"
    with prefect(stack) as server:
        deployment = server.get("/deployments/name/retrain/retrain").json()
        given: dict[str, Any] = deployment["parameters"]["settings"]
        assert given["store"]["url"] == "s3://recsys/production" and given["promotion"]["approval"] == "manual"
        settings = {**LEAN, "store": given["store"], "work_dir": given["work_dir"]}
        settings["data"] = {"local_path": str(path), "cache_dir": given["data"]["cache_dir"]}
        run = server.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": {"settings": settings}}).json()

        def ended() -> Any:
            state = server.get(f"/flow_runs/{run['id']}").json()["state"]
            return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        state = wait_until(ended, 1800, "the retraining")
        assert state["type"] == "COMPLETED", state["message"]

    for replica in ("api-1", "api-2"):
        wait_until(lambda replica=replica: status(f"{stack.url(replica)}/readyz") == 200, 900, f"{replica}")  # type: ignore[misc]
    question = {"history": [{"item_id": 1, "time": synthetic.START}, {"item_id": 2, "time": synthetic.START + 60}], "k": 5}
    answer = httpx.post(f"{stack.url('proxy')}/v1/recommendations", json=question, timeout=90)
    assert answer.status_code == 200 and len(answer.json()["items"]) == 5, answer.text
    assert status(f"{stack.url('proxy')}/metrics") == 404, "the proxy shows the metrics to the world"
    served = request("GET", f"{stack.url('api-1')}/metrics").text
    asked = {name for expression in expressions() for name in re.findall(r"recsys_[a-z_]+", expression)}
    asked -= set(exporter_metrics())  # tests/infra/exporter
    asked = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in asked}
    assert asked and asked <= {re.sub(r"_total$", "", name) for name in re.findall(r"(?m)^# TYPE (\S+) ", served)}
    with prefect(stack) as server:
        assert "# TYPE" in server.get("/metrics").raise_for_status().text, "Prometheus finds nothing there"
    assert status(f"{stack.url('demo')}/_stcore/health") == 200

    os.killpg(stack.processes["api-1"].pid, signal.SIGKILL)
    stack.processes["api-1"].wait()
    answers = [httpx.post(f"{stack.url('proxy')}/v1/recommendations", json=question, timeout=90).status_code for _ in range(30)]
    assert set(answers) == {200}, "a replica that died cost a request"


def test_no_log_of_the_run_and_nothing_that_the_server_shows_holds_a_secret(stack: Running) -> None:
    secrets = planted(stack.layout.folder / "secrets")
    assert len(secrets) >= 8

    def sent() -> bool:
        return "iscord" in stack.log("prefect").read_text()

    wait_until(sent, 900, "the message to Discord, which cannot be reached")
    time.sleep(2)
    with prefect(stack) as server:
        shown = {
            path: server.post(f"/{path}/filter", json=body).raise_for_status().text
            for path, body in {
                "logs": {"limit": 200},
                "flow_runs": {},
                "task_runs": {},
                "artifacts": {},
                "events": {},
                "deployments": {},
                "block_documents": {},
                "variables": {},
                "automations": {},
            }.items()
        }
        assert "epoch 1 of" in shown["logs"] and "recsys.gate." in shown["events"]
    written = {path.name: path.read_bytes().decode(errors="replace") for path in (stack.layout.folder / "logs").iterdir()}
    for place, text in {**shown, **written}.items():
        for name, secret in secrets.items():
            assert secret not in text, f"{name} is in {place}"


def planted(folder: Path) -> dict[str, str]:
    """Return each secret, and its parts that are secret by themselves."""
    found = {}
    for path in folder.iterdir():
        content = path.read_text().strip()
        if not content or path.name == "api_keys":  # not set; digests, which everyone may see
            continue
        if path.name.startswith("aws"):
            found[path.name] = content.split("aws_secret_access_key = ")[1]
        else:
            found[path.name] = content
    found["token of the webhook"] = PLANTED["discord_webhook_url"].rsplit("/", 1)[1]
    found["basic auth"] = base64.b64encode(found["prefect_auth"].encode()).decode()
    return found


def status(url: str) -> int:
    try:
        return httpx.get(url, timeout=60).status_code
    except httpx.HTTPError:
        return 0
