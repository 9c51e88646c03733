from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Completed, Crashed, Running

from flows.resume import resume
from tasks.stages import RESUMED


@flow(name="may-resume")
def may_resume(seed: int) -> None:
    """A flow of the server, for its deployment."""


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
        assert set(found.tags) == {"mine", "resumes", RESUMED, f"resumed-from-{first}"}
        client.set_flow_run_state(second, Crashed(message="killed"), force=True)
        assert resume(second) is None, "it would go on for ever"


def test_a_run_that_has_ended_well_after_all_is_left_alone() -> None:
    with get_client(sync_client=True) as client:
        run = begun(client, "completes")
        assert resume(run) is None
        client.set_flow_run_state(run, Completed(), force=True)
        assert resume(run) is None
