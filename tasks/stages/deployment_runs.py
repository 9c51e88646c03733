"""Start runs of deployments that take settings, and find them again after a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from configs.base import Settings
from configs.renames import names_of_form

__all__ = ["RESUMED_TAG", "resumed_tags", "start_run", "started_runs", "wait_for_end"]

RESUMED_TAG = "resumed"
"""Tag of a run that goes on after a crash."""
FIRST = "resumed-from-"


def resumed_tags(crashed: FlowRun) -> list[str]:
    """Return the tags of the run that goes on after a crash."""
    return sorted({*crashed.tags, RESUMED_TAG, f"{FIRST}{crashed.id}"} - {"auto-scheduled"})


def _first_run() -> str:
    """Return the id of this flow run, or of the run that crashed before it. Both find the runs that the first has started."""
    own = str(flow_run.root_flow_run_id or flow_run.id)
    with get_client(sync_client=True) as client:
        tags = client.read_flow_run(UUID(own)).tags
    return next((tag.removeprefix(FIRST) for tag in tags if tag.startswith(FIRST)), own)


def started_runs(deployment: str, settings: Settings, parameters: Mapping[str, Any], key: str) -> Iterator[FlowRun]:
    """Yield the runs of a deployment that do one piece of work for this flow run: those that were started before, then new ones.

    A run is started when it is asked for. A task that is retried, and a run that goes on after a crash, find the same runs again.

    Args:
        deployment: The deployment, as `flow/name`.
        settings: The parameter `settings` of the runs.
        parameters: The other parameters of the runs.
        key: What names the work within this flow run.

    Raises:
        ObjectNotFound: The server has no such deployment.
    """
    origin = _first_run()
    for number in count():
        yield start_run(deployment, settings, parameters, timeout=0, idempotency_key=f"{origin}-{key}-{number}")


def wait_for_end(run: FlowRun, poll_s: float) -> FlowRun:
    """Return a flow run once it has ended, however long that takes. Its state is read every `poll_s` seconds."""
    with get_client(sync_client=True) as client:
        while True:
            found: FlowRun = client.read_flow_run(run.id)
            if found.state is not None and found.state.is_final():
                return found
            time.sleep(poll_s)


def start_run(deployment: str, settings: Settings, parameters: Mapping[str, Any], **options: Any) -> FlowRun:
    """Start a run of a deployment. The store's credentials are not passed on, because a run's parameters are readable by everyone.

    The server may hold the form of an earlier setup, from before some settings were renamed. It refuses a name that its form does
    not know, so the run then gets the former name, which the flow reads too.

    Args:
        deployment: The deployment, as `flow/name`.
        settings: The parameter `settings` of the run.
        parameters: The other parameters of the run.
        **options: Options of Prefect's `run_deployment`.

    Raises:
        ObjectNotFound: The server has no such deployment.
    """
    with get_client(sync_client=True) as client:
        form = client.read_deployment_by_name(deployment).parameter_openapi_schema or {}
    given = settings.model_dump(mode="json", exclude={"store": {"access_key_id", "secret_access_key"}})
    named = names_of_form([type(settings)], given, form.get("properties", {}).get("settings", {}), form)
    run: Any = run_deployment(deployment, parameters={**parameters, "settings": named}, **options)
    assert isinstance(run, FlowRun)
    return run
