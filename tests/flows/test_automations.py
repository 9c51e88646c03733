from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.events import Event, Resource
from prefect.states import Completed, Crashed, Running

from configs.errors import DeploymentMissingError
from flows import resume as resuming
from flows.resume import resume
from infra.prefect_server import RETRAINING_DUE
from infra.prefect_server.alerts import retrain_when_due
from tasks.stages import RESUMED_TAG


@flow(name="stands-in")
def stands_in() -> None:
    """Stand in for a flow, so that it can have a deployment."""


def test_the_automation_is_created_once_and_then_updated() -> None:
    with pytest.raises(DeploymentMissingError, match="no deployment stands-in/for-due"):
        retrain_when_due("ranker-a", "stands-in/for-due")
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(stands_in), "for-due")
        first = retrain_when_due("ranker-a", "stands-in/for-due", enabled=False)
        assert retrain_when_due("ranker-a", "stands-in/for-due", {"seed": 3}).id == first.id
        other = retrain_when_due("ranker-b", "stands-in/for-due")
        assert other.id != first.id
        Automation(**{**other.model_dump(exclude={"id"}), "name": "retrain ranker-a when due"}).create()  # two set-ups at once
        assert retrain_when_due("ranker-a", "stands-in/for-due", {"seed": 4}).id is not None
        kept = client.read_automations_by_name("retrain ranker-a when due")
    assert len(kept) == 1 and kept[0].enabled
    assert kept[0].trigger.expect == {RETRAINING_DUE}  # type: ignore[union-attr]
    assert kept[0].trigger.match.model_dump() == {"prefect.resource.id": "recsys.model.ranker-a"}  # type: ignore[union-attr]
    action = kept[0].actions[0].model_dump()
    assert action["deployment_id"] == deployment and action["parameters"] == {"seed": 4}


@flow(name="may-resume")
def may_resume(seed: int) -> None:
    """Stand in for a flow, so that it can have a deployment."""


def begun(client: SyncPrefectClient, name: str) -> UUID:
    deployment = client.create_deployment(client.create_flow(may_resume), name, tags=["resumes"])
    run = client.create_flow_run_from_deployment(deployment, parameters={"seed": 7}, tags=["mine", "auto-scheduled"])
    client.set_flow_run_state(run.id, Running(), force=True)
    return run.id


def test_a_crashed_run_is_started_again_once() -> None:
    with get_client(sync_client=True) as client:
        first = begun(client, "crashes")
        client.set_flow_run_state(first, Crashed(message="killed"), force=True)
        second = resume(first)
        assert second is not None and second != first
        assert resume(first) == second, "the crash was reported twice"
        found = client.read_flow_run(second)
        assert found.parameters == {"seed": 7} and found.deployment_id == client.read_flow_run(first).deployment_id
        assert set(found.tags) == {"mine", "resumes", RESUMED_TAG, f"resumed-from-{first}"}
        client.set_flow_run_state(second, Crashed(message="killed"), force=True)
        assert resume(second) is None, "it would go on for ever"


def test_a_run_that_has_completed_after_all_is_left_alone() -> None:
    with get_client(sync_client=True) as client:
        run = begun(client, "completes")
        assert resume(run) is None
        client.set_flow_run_state(run, Completed(), force=True)
        assert resume(run) is None


LOST = Crashed(message="No heartbeat for 540 s: the process or the machine is gone.")


class Waiting:
    """Time that passes only while the flow waits, and what happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.now, self.meanwhile = 0.0, meanwhile

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


def heartbeat(client: SyncPrefectClient, run: UUID, late: timedelta = timedelta(0)) -> None:
    """Send a heartbeat of the run, dated by a clock that is slow, and wait until the server has stored it."""
    event = Event(
        event="prefect.flow-run.heartbeat",
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run}"}),
        occurred=datetime.now(UTC) - late,  # type: ignore[arg-type]
    )
    client.request("POST", "/events", json=[event.model_dump(mode="json")])
    end = time.monotonic() + 300
    while resuming._newest_heartbeat(client, run) != str(event.id):
        assert time.monotonic() < end, "the server has not stored the event"
        time.sleep(0.2)


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(timedelta(0), id="right"),
        pytest.param(timedelta(minutes=9), id="slow", marks=pytest.mark.full),
        pytest.param(timedelta(minutes=-9), id="fast", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("tags", [[], [RESUMED_TAG]], ids=["first", "resumed"])
def test_a_run_that_sends_heartbeats_after_all_is_running_and_is_not_started_beside_itself(
    late: timedelta, tags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with get_client(sync_client=True) as client:
        run = begun(client, f"lives-{late}-{tags}")
        client.update_flow_run(run, tags=[*client.read_flow_run(run).tags, *tags])
        heartbeat(client, run, late + timedelta(minutes=9))
        client.set_flow_run_state(run, LOST, force=True)
        monkeypatch.setattr(resuming, "time", Waiting(lambda: heartbeat(client, run, late)))
        assert resume(run) is None
        found = client.read_flow_run(run)
        assert found.state is not None and found.state.is_running(), "a later crash must be seen"
        deployed = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[found.deployment_id]))  # type: ignore[list-item]
        assert [each.id for each in client.read_flow_runs(flow_run_filter=deployed)] == [run]


def test_a_run_whose_heartbeats_stay_away_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with get_client(sync_client=True) as client:
        run = begun(client, "dead")
        heartbeat(client, run)
        client.set_flow_run_state(run, LOST, force=True)
        waiting = Waiting(lambda: None)
        monkeypatch.setattr(resuming, "time", waiting)
        second = resume(run, 30)
        assert second is not None and client.read_flow_run(second).parameters == {"seed": 7}
        assert 30 < waiting.now < 300, "longer than the time between two heartbeats"


def test_a_run_that_ends_by_itself_while_its_heartbeats_are_awaited_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with get_client(sync_client=True) as client:
        run = begun(client, "ends")
        client.set_flow_run_state(run, LOST, force=True)
        monkeypatch.setattr(resuming, "time", Waiting(lambda: client.set_flow_run_state(run, Completed(), force=True)))
        assert resume(run) is None
        found = client.read_flow_run(run)
        assert found.state is not None and found.state.is_completed()
