"""resume: start a crashed run again, once. The automation of `infra.prefect_server` calls it when a training crashes."""

from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger

from tasks.stages import RESUMED_TAG, resumed_tags

__all__ = ["resume"]


@flow(name="resume", flow_run_name="{run}", retries=3, retry_delay_seconds=30)
def resume(run: UUID) -> UUID | None:
    """Start a run with the parameters of a crashed one. It goes on from its last epoch, because the checkpoints are kept.

    The new run is another one, because a worker may report the crash of the old one a second time, and late.

    Args:
        run: Id of the crashed run.

    Returns:
        The id of the new run. None if the run is not crashed any more, or was itself started in this way: a second crash is final.
    """
    log = get_run_logger()
    with get_client(sync_client=True) as client:
        crashed = client.read_flow_run(run)
        if crashed.state is None or not crashed.state.is_crashed() or crashed.deployment_id is None:
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
