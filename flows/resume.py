"""resume: start a crashed run again, once. The automation of `infra.prefect_server` calls it when a training crashes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_run_logger
from prefect.states import Running

from infra.prefect_server import HEARTBEAT_S, NO_HEARTBEAT
from tasks.stages import RESUMED_TAG, resumed_tags

__all__ = ["resume"]

DELAY_S = 60  # until the server has stored a heartbeat
POLL_S = 5.0


@flow(name="resume", flow_run_name="{run}", retries=3, retry_delay_seconds=30)
def resume(run: UUID, heartbeat_s: int = HEARTBEAT_S) -> UUID | None:
    """Start a run with the parameters of a crashed one. It goes on from its last epoch, because the checkpoints are kept.

    The new run is another one, because a worker may report the crash of the old one a second time, and late.

    A run that was crashed because its heartbeats stopped may be alive: the server may have been away for minutes, or the clock of
    the run's machine may be slow. If it sends another heartbeat, it is running again, and no second run starts beside it.

    Args:
        run: Id of the crashed run.
        heartbeat_s: Seconds between two heartbeats of a run.

    Returns:
        The id of the new run. None if the run is not crashed any more, or was itself started in this way: a second crash is final.
    """
    log = get_run_logger()
    with get_client(sync_client=True) as client:
        crashed = client.read_flow_run(run)
        if _is_crashed(crashed) and _lost_heartbeats(crashed) and _sends_heartbeat(client, run, heartbeat_s + DELAY_S):
            client.set_flow_run_state(run, Running(message="It sends heartbeats again, so it has not crashed."), force=True)
            log.warning("%s was taken for dead, but sends heartbeats, so it is not started again", crashed.name)
            return None
        crashed = client.read_flow_run(run)  # it may have ended in the meantime
        if not _is_crashed(crashed) or crashed.deployment_id is None:
            log.info("%s has not crashed, so it is not started again", crashed.name)
            return None
        if RESUMED_TAG in crashed.tags:
            log.warning("%s has crashed for the second time and is not started again", crashed.name)
            return None
        started = client.create_flow_run_from_deployment(
            crashed.deployment_id,
            parameters=crashed.parameters,
            tags=resumed_tags(crashed),
            work_queue_name=crashed.work_queue_name,
            job_variables=crashed.job_variables,
            idempotency_key=f"resume-{run}",
        )
    log.info("%s has crashed; %s goes on from its last epoch", crashed.name, started.name)
    return started.id


def _is_crashed(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_crashed()


def _lost_heartbeats(run: FlowRun) -> bool:
    """Return whether only missing heartbeats speak for the crash. A worker that reports one has seen the process end."""
    return run.state is not None and (run.state.message or "").startswith(NO_HEARTBEAT)


def _sends_heartbeat(client: SyncPrefectClient, run: UUID, patience_s: float) -> bool:
    """Return whether the crashed run sends another heartbeat, or ends by itself, within `patience_s` seconds."""
    before, end = _newest_heartbeat(client, run), time.monotonic() + patience_s
    while time.monotonic() < end and _is_crashed(client.read_flow_run(run)):
        time.sleep(POLL_S)
        if _newest_heartbeat(client, run) != before:
            return _is_crashed(client.read_flow_run(run))
    return False


def _newest_heartbeat(client: SyncPrefectClient, run: UUID) -> str | None:
    """Return the id of the run's newest heartbeat. Its time is of no use, because the clock of the run's machine has set it."""
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
        "occurred": {"until": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    }
    found = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1}).json()["events"]
    return str(found[0]["id"]) if found else None
