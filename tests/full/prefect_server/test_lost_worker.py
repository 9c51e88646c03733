"""A worker or run that dies between two of its signs of life blocks nothing for long: a real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.prefect_server.upkeep import UNSTARTED
from tests.doubles.live_prefect import ask, prefect_server, read, recsys, request, wait_until

pytestmark = pytest.mark.full
PENDING = {"type": "PENDING", "name": "Pending"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        alerts = "alerts={start_s: 20, heartbeat_s: 30, missed_heartbeats: 2}"
        done = recsys(["setup", "--set", "schedules=false", "--set", alerts], environment)
        assert done.returncode == 0, done.stderr
        yield environment


def started(server: dict[str, str], name: str) -> str:
    deployment = read(server, f"deployments/name/{name}")
    return str(ask(server, f"deployments/{deployment['id']}/create_flow_run")["id"])


def take(server: dict[str, str], run: str) -> dict[str, Any]:
    """Do what a worker does before it starts a run, and return the server's answer."""
    found: dict[str, Any] = ask(server, f"flow_runs/{run}/set_state", state=PENDING)
    return found


def offered(server: dict[str, str]) -> set[str]:
    """Return the runs that the server offers to a worker."""
    now = datetime.now(UTC).isoformat()
    return {each["flow_run"]["id"] for each in ask(server, "work_pools/recsys/get_scheduled_flow_runs", scheduled_before=now)}


def switch(server: dict[str, str], enabled: bool) -> None:
    """Switch the automation on or off, as in the UI."""
    (found,) = [each for each in ask(server, "automations/filter") if each["name"] == UNSTARTED]
    request("PATCH", f"{server['PREFECT_API_URL']}/automations/{found['id']}", json={"enabled": enabled}).raise_for_status()


def test_a_run_whose_worker_died_before_it_started_frees_its_slots_and_is_started_again(server: dict[str, str]) -> None:
    switch(server, False)
    blocking = [started(server, name) for name in ("etl/etl", "retrain/retrain")]
    for run in blocking:
        assert take(server, run)["status"] == "ACCEPT"
    # Their worker is gone. The next run of the schedule is cancelled, and no training is offered to a worker.
    answer = take(server, started(server, "etl/etl"))
    assert (answer["status"], answer["state"]["type"]) == ("REJECT", "CANCELLED")
    waiting = started(server, "train/train")
    assert waiting not in offered(server)
    for run in blocking:
        ask(server, f"flow_runs/{run}/set_state", state={"type": "CANCELLED", "name": "Cancelled"}, force=True)
    assert waiting in offered(server)

    switch(server, True)
    lost = [started(server, name) for name in ("etl/etl", "retrain/retrain")]
    for run in lost:
        assert take(server, run)["status"] == "ACCEPT"
    for run in lost:
        wait_until(lambda run=run: read(server, f"flow_runs/{run}")["state_type"] == "CRASHED", 600, "the crash")  # type: ignore[misc]
        assert read(server, f"flow_runs/{run}")["state"]["message"].startswith("Not started within 20 s")
    assert waiting in offered(server), "the queue of trainings is still blocked"
    assert take(server, started(server, "etl/etl"))["status"] == "ACCEPT", "the schedule is still blocked"
    resuming = read(server, "deployments/name/resume/resume")["id"]

    def resumed() -> bool:
        found = ask(server, "flow_runs/filter", deployments={"id": {"any_": [resuming]}})
        return {run["parameters"]["run"] for run in found} >= set(lost)

    wait_until(resumed, 600, "the runs that start both again")


@pytest.mark.nightly  # the test above shows a lost run by day
def test_a_run_that_is_lost_before_its_first_heartbeat_frees_its_slot(server: dict[str, str]) -> None:
    deployment = read(server, "deployments/name/etl/etl")
    assert deployment["job_variables"]["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}, "its runs need not send heartbeats"
    for run in ask(server, "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["PENDING"]}}}):  # of the test before
        ask(server, f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLED", "name": "Cancelled"}, force=True)
    lost = started(server, "etl/etl")
    assert take(server, lost)["status"] == "ACCEPT"
    assert ask(server, f"flow_runs/{lost}/set_state", state={"type": "RUNNING", "name": "Running"})["status"] == "ACCEPT"
    wait_until(lambda: read(server, f"flow_runs/{lost}")["state_type"] == "CRASHED", 600, "the crash")
    assert read(server, f"flow_runs/{lost}")["state"]["message"].startswith("No heartbeat for 60 s")
    assert take(server, started(server, "etl/etl"))["status"] == "ACCEPT", "the schedule is still blocked"
