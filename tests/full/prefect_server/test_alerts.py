"""Who gets which message: a real Prefect server with the automations of `recsys setup`, and a webhook."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events import Event, Resource
from prefect.events.clients import PrefectEventsClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra.prefect_server import DRIFT_DETECTED, RETRAINING_DUE, model_resource
from tests import synthetic
from tests.doubles.live_prefect import ROOT, Webhook, ask, prefect_server, read, recsys, request, wait_until, webhook
from tests.flows.conftest import LEAN

pytestmark = pytest.mark.full
MESSAGE = {"subject": "{{subject}}", "body": "{{body}}"}
HEARTBEAT_S = 30  # the least that Prefect allows


@pytest.fixture(scope="module")
def sink() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


@pytest.fixture(scope="module")
def server(sink: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run a server that `recsys setup` has set up to send messages to the webhook."""
    beat = str(HEARTBEAT_S)
    with prefect_server(tmp_path_factory.mktemp("prefect"), PREFECT_FLOWS_HEARTBEAT_FREQUENCY=beat) as environment:
        with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
            block = CustomWebhookNotificationBlock(name="sink", url=sink.url, json_data=MESSAGE)
            block.save("sink", _sync=True)  # type: ignore[call-arg]
        alerts = f"alerts={{blocks: [custom-webhook/sink], heartbeat_s: {beat}, missed_heartbeats: 2}}"
        # Without schedules: a run that is due during a test would be late, because no worker is up, and cause a message.
        done = recsys(["setup", "--set", alerts, "--set", "schedules=false"], environment)
        assert done.returncode == 0, done.stderr
        yield environment


def settings_file(folder: Path, **changes: Any) -> str:
    path = synthetic.write_csv(folder / "data", synthetic.interactions(80, 40, 25))
    places = {
        "data": {"local_path": str(path), "cache_dir": str(folder / "cache")},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump({**LEAN, **places, **changes}))
    return str(folder / "run.yaml")


def deployed_run(server: dict[str, str], flow: str, **parameters: Any) -> str:
    deployment = read(server, f"deployments/name/{flow}/{flow}")
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
    return str(ask(server, f"deployments/{deployment['id']}/create_flow_run", state=later, parameters=parameters)["id"])


async def emit_drift(server: dict[str, str]) -> None:
    """Emit the events of `recsys monitor`: there is drift, and a retraining is due. Return when the server has confirmed both.

    `emit_event` would not do: it uses the connection of this process, which may lead to the server of an earlier test.
    """
    payload = {"dataset": "small/abc", "champion": "v1", "rows": 500, "reasons": ["Ratings fell.", "Half of the films are new."]}
    resource = Resource(model_resource("movie-ranker"))
    async with PrefectEventsClient(server["PREFECT_API_URL"], checkpoint_every=1) as client:
        await client.emit(Event(event=DRIFT_DETECTED, resource=resource, payload=payload))
        await client.emit(Event(event=RETRAINING_DUE, resource=resource, payload={"why": "drift"}))


def opens(link: str) -> bool:
    """Return whether a browser gets the UI's page at the link, and the server knows the run that it names."""
    page = request("GET", link, headers={"Accept": "text/html"})
    api, run = link.split("/runs/")[0], link.rsplit("/", 1)[1]
    return page.status_code == 200 and "<html" in page.text and request("GET", f"{api}/api/flow_runs/{run}").status_code == 200


def set_state(server: dict[str, str], run: str, **state: str) -> None:
    answer = ask(server, f"flow_runs/{run}/set_state", state=state, force=True)
    assert answer["status"] == "ACCEPT", answer


@pytest.mark.nightly  # test_resume.py shows by day that a killed run crashes
def test_a_killed_run_counts_as_crashed_when_its_heartbeats_stop(server: dict[str, str], sink: Webhook, tmp_path: Path) -> None:
    models = {**LEAN["models"], "ss4rec": {**LEAN["models"]["ss4rec"], "max_epochs": 5000, "patience": 5000}}  # type: ignore[dict-item, index]
    command = [sys.executable, "-m", "flows.cli", "retrain", "--verbose", "-c", settings_file(tmp_path, models=models)]
    with (tmp_path / "log").open("w") as log:
        killed = subprocess.Popen(command, env=server, cwd=ROOT, stdout=log, stderr=log)
    wait_until(lambda: "ss4rec epoch 2 of" in (tmp_path / "log").read_text(), 900, "training")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    run = next(run for run in ask(server, "flow_runs/filter") if run["state_type"] == "RUNNING" and run["deployment_id"] is None)

    # Meanwhile, everything else happens that people get a message about.
    before = len(sink.messages)
    deployed = {kind: deployed_run(server, "etl") for kind in ("failed", "late")}
    set_state(server, deployed["failed"], type="FAILED", name="Failed", message="The ratings file has no column rating.")
    set_state(server, deployed["late"], type="SCHEDULED", name="Late")
    part = deployed_run(server, "compare-run", comparison="c", entry="ncf", seed=1, dataset="d/v", settings={})
    set_state(server, part, type="FAILED", name="Failed", message="a part of another run")

    def told() -> dict[str, dict[str, Any]]:
        """Return the messages by the last words of their subjects. Other messages may come between them."""
        return {message["subject"].rsplit(" ", 1)[-1]: message for message in sink.messages[before:]}

    found = wait_until(lambda: (said := told()).keys() >= {"failed", "late"} and said, 900, "two messages")
    assert found["failed"]["body"].startswith("The ratings file has no column rating.\n")
    link = f"{server['PREFECT_UI_URL']}/runs/flow-run/{deployed['failed']}"
    assert link in found["failed"]["body"] and opens(link)
    assert "waits" in found["late"]["body"] and "recsys" in found["late"]["body"]

    asyncio.run(emit_drift(server))
    drift = wait_until(lambda: told().get("drifted"), 900, "the message of drift")
    assert drift["subject"] == "movie-ranker: small/abc has drifted"
    assert drift["body"].startswith("Ratings fell. Half of the films are new.\n500 events, compared with the champion v1.")

    def retraining() -> bool:
        runs = ask(server, "flow_runs/filter", deployments={"name": {"any_": ["retrain"]}}, sort="ID_DESC")
        return any("automation" in str(run["created_by"]).lower() for run in runs)

    wait_until(retraining, 900, "the retraining that the automation starts")

    def crashed() -> bool:
        now = read(server, f"flow_runs/{run['id']}")
        return bool(now["state_type"] == "CRASHED" and "No heartbeat for 60 s" in now["state"]["message"])

    wait_until(crashed, 900, "the crash")
    # The retraining that drift has started may be late by now, because no worker is up. Otherwise each event has one message.
    subjects = [message["subject"] for message in sink.messages[before:]]
    others = [subject for subject in subjects if not (subject.startswith("retrain ") and subject.endswith(" is late"))]
    assert len(others) == 3, "there was a message about a run that nobody watches, or one came twice"


def test_a_webhook_that_fails_fails_no_run_and_messages_have_figures_and_links(
    server: dict[str, str], sink: Webhook, tmp_path: Path
) -> None:
    def decisions() -> list[dict[str, Any]]:  # meanwhile a message may say that the retraining that drift has started is late
        return [message for message in sink.messages if message["subject"].startswith("movie-ranker ")]

    config, first = settings_file(tmp_path), len(decisions())
    sink.status = 500
    try:
        done = recsys(["retrain", "-c", config], server)
        assert done.returncode == 0 and "verdict: promoted" in done.stdout, done.stderr
        wait_until(lambda: [each for each in sink.refused if each["subject"].endswith(": promoted")], 900, "the attempt")
    finally:
        sink.status = 200
    done = recsys(["retrain", "-c", config, "--json", str(tmp_path / "out.json")], server)
    assert done.returncode == 0 and "verdict: held" in done.stdout, done.stderr
    wait_until(lambda: len(decisions()) > first, 900, "the message")
    held = decisions()[first]
    assert held["subject"].startswith("movie-ranker 20") and held["subject"].endswith(": held")
    assert "challenger: HR@10 0." in held["body"] and "- " in held["body"] and "better than the champion" in held["body"]
    links = [line.split(": ", 1)[1] for line in held["body"].splitlines() if line.startswith(("decision: ", "version: "))]
    page, version = [Path(link.removeprefix("file://")) for link in links]
    assert page.is_file() and version.is_dir() and opens(held["body"].splitlines()[-2])

    done = recsys(["model", "promote", version.name, "--force", "--reason", "seen good in a test", "-c", config], server)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: any("by force" in message["subject"] for message in sink.messages), 900, "the message")
    (forced,) = [message for message in sink.messages if "by force" in message["subject"]]
    assert forced["subject"] == f"movie-ranker: promoted by force {version.name}" and "seen good in a test" in forced["body"]
    assert len(decisions()) == first + 1
