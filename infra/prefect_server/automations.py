"""Automations that the Prefect server runs by itself: when monitoring detects drift, a retrain run starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.errors import DeploymentMissingError

if TYPE_CHECKING:
    from prefect.automations import Automation

__all__ = ["DRIFT_DETECTED", "model_resource", "retrain_on_drift"]

DRIFT_DETECTED = "recsys.drift.detected"


def model_resource(model_name: str) -> dict[str, str]:
    """Return the Prefect resource that a model's events refer to."""
    return {"prefect.resource.id": f"recsys.model.{model_name}", "prefect.resource.name": model_name}


def retrain_on_drift(
    model_name: str, deployment: str = "retrain/retrain", parameters: dict[str, Any] | None = None, *, enabled: bool = True
) -> Automation:
    """Create or update the automation `retrain <model_name> on drift`.

    A DRIFT_DETECTED event of the model then starts a run of the deployment. The function is idempotent: calling it again
    changes nothing and never creates a second automation.

    Args:
        model_name: The model whose drift starts the run.
        deployment: The deployment to run, as `flow/name`.
        parameters: Parameters of the run.
        enabled: Whether the automation is switched on.

    Raises:
        DeploymentMissingError: The server has no such deployment.
    """
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.exceptions import ObjectNotFound

    name = f"retrain {model_name} on drift"
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            raise DeploymentMissingError(
                f"The Prefect server has no deployment {deployment}, so drift of {model_name} cannot start it. "
                "`prefect --no-prompt deploy --all` creates one for each flow."
            ) from None
        known = client.read_automations_by_name(name)
    wanted = Automation(
        name=name,
        description=f"Starts {deployment} when monitoring finds that events have drifted away from the champion of {model_name}.",
        enabled=enabled,
        trigger=EventTrigger(
            expect={DRIFT_DETECTED},
            match={"prefect.resource.id": model_resource(model_name)["prefect.resource.id"]},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="selected", deployment_id=found.id, parameters=parameters, job_variables=None)],
    )
    if not known:
        wanted.create()
        return wanted
    wanted.id = known[0].id
    if known[0].model_dump(exclude={"id"}) != wanted.model_dump(exclude={"id"}):
        wanted.update()
    for extra in known[1:]:  # two concurrent first set-ups have both created it
        Automation(**extra.model_dump()).delete()
    return wanted
