"""Bring a Prefect server into the state that an environment defines. Setup is idempotent: a second run changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.errors import SettingsError
from configs.loading import merged
from configs.redaction import safe_settings, shown_address
from infra.prefect_server.alerts import (
    ALERTS,
    RESUME,
    RESUMED,
    apply_automation,
    due_automation,
    name_of_old,
    remove_automation,
    retrain_when_due,
    wanted_automations,
)
from infra.prefect_server.blocks import DISCORD, RUNPOD, SWITCH, Secret, block_id, read_secrets, store_secret
from infra.prefect_server.change import Change
from infra.prefect_server.connection import server_version
from infra.prefect_server.deployments import Definition, apply_deployment, deployment_defined, read_prefect_file
from infra.prefect_server.environment import CPU_POOL, AlertSettings, EnvironmentSettings
from infra.prefect_server.made import left_over_deployments, record_made, report_left_over
from infra.prefect_server.pod_credentials import TRAINER, pod_environment
from infra.prefect_server.pools import GPU_POOL, NO_IMAGE, NO_KEY, check_pools, has_image, set_up_pools
from infra.prefect_server.upkeep import PINGED, report_upkeep
from infra.progress import report

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["left_over", "set_up", "set_up_by"]

ENVIRONMENT = "recsys_environment"
HEARTBEATS = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
PROJECT = "movielens-recsys"
NO_STORE_KEYS = "left out: no store credentials are set for rented pods (AWS_TRAINER_CREDENTIALS)"
NO_RESUMING = "left out: alerts.resume_crashed is off"
SETUP, OTHER_STEPS = "setup", 5  # steps besides the deployments: checks, blocks, pools; automations, what is left over
NO_SWITCH = "left out: nobody is alarmed if the daily message stays away (DEAD_MANS_SWITCH_URL)"
NO_RECIPIENT = "left out: no recipient is set (alerts.blocks, DISCORD_WEBHOOK_URL)"


def set_up(
    settings: EnvironmentSettings, *, take_over: bool = False, prune: bool = False, secrets: Mapping[str, str] = os.environ
) -> list[Change]:
    """Create or update everything that the environment needs on the server at PREFECT_API_URL.

    Everything that can be refused is checked before the first change, so a refused setup leaves the server as it was.

    Args:
        settings: The environment.
        take_over: Set up the server even if it belongs to another environment.
        prune: Remove deployments and automations that an earlier setup has made and that are no longer defined.
        secrets: May hold DISCORD_WEBHOOK_URL, DEAD_MANS_SWITCH_URL, RUNPOD_API_KEY and AWS_TRAINER_CREDENTIALS (the store's credentials for rented
            pods). A name with the suffix _FILE holds the path of a file with the secret instead.

    Raises:
        SettingsError: No server is set or it does not answer, it belongs to another environment, or a block or deployment
            that the settings name does not exist.
    """
    given, definitions = read_secrets(secrets), _definitions(settings)
    due = due_automation(settings.retraining.model_name)
    names = {"deployment": [wanted.full_name for wanted in definitions], "automation": [*ALERTS, due]}
    steps = len(definitions) + OTHER_STEPS
    with _server() as client:
        _check_owner(client, settings, take_over)
        _check_recipients(client, settings.alerts, given)
        check_pools(client)
        report(SETUP, 1, steps, "the server can be set up")
        changes = [_record_owner(client, settings), *map(store_secret, given)]
        rents, has_store_keys = block_id(client, RUNPOD) is not None, block_id(client, TRAINER) is not None
        if rents and not has_store_keys and settings.retraining.store.url.startswith("s3:"):
            changes.append(Change("block", TRAINER, NO_STORE_KEYS))
        report(SETUP, 2, steps, "the blocks are stored")
        changes += set_up_pools(client, settings.pools, rents)
        if rents and settings.pools.gpu_image is None and not has_image(client):
            changes.append(Change("image", GPU_POOL, NO_IMAGE))
        report(SETUP, 3, steps, "the work pools and queues are there")
        complete = [_for_pods(_with_heartbeats(wanted, settings), settings, has_store_keys) for wanted in definitions]
        changes += _deploy(client, complete, active=settings.schedules, rents=rents)
        changes.append(_start_retraining_when_due(client, settings.retraining.model_name))
        changes += _set_up_alerts(client, settings.alerts)
        report(SETUP, steps - 1, steps, "the automations are there")
        changes += [*report_left_over(client, names, prune=prune), *report_upkeep(client)]
        record_made(client, names)
        report(SETUP, steps, steps, "the server is set up")
    return changes


def left_over() -> list[str]:
    """Return the names of the deployments that setup has made on the server at PREFECT_API_URL and that are no longer defined."""
    from prefect.client.orchestration import get_client

    entries, _ = read_prefect_file()
    with get_client(sync_client=True) as client:
        return left_over_deployments(client, [(entry["entrypoint"], entry["name"]) for entry in entries])


def set_up_by() -> str | None:
    """Return the release of this project that set up the server at PREFECT_API_URL last, or None if that is not recorded."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_variable_by_name(ENVIRONMENT)
    value = None if found is None else found.value
    return value.get("release") if isinstance(value, dict) else None


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        raise SettingsError(
            "PREFECT_API_URL is not set, so there is no server to set up. Start one (`prefect server start`) and set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api."
        )
    server_version()
    with get_client(sync_client=True) as client:
        yield client


def _check_owner(client: SyncPrefectClient, settings: EnvironmentSettings, take_over: bool) -> None:
    """Refuse a server of another environment, so that a laptop's settings cannot overwrite production's."""
    current = client.read_variable_by_name(ENVIRONMENT)
    if current is None or take_over:
        return
    found = current.value.get("environment") if isinstance(current.value, dict) else current.value
    if found != settings.environment:
        raise SettingsError(
            f"The Prefect server at {shown_address(str(client.api_url))} is set up for the environment {found}, but this is "
            f"{settings.environment}. Correct PREFECT_API_URL or --config, or pass --take-over to set the server up for this "
            "environment."
        )


def _record_owner(client: SyncPrefectClient, settings: EnvironmentSettings) -> Change:
    """Record the owner of the server in a variable."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    value = {
        "environment": settings.environment,
        "store": safe_settings(settings.retraining)["store"]["url"],
        "release": _release(),
    }
    current = client.read_variable_by_name(ENVIRONMENT)
    if current is None:
        client.create_variable(VariableCreate(name=ENVIRONMENT, value=value, tags=["recsys"]))
        return Change("variable", ENVIRONMENT, "created")
    if current.value == value:
        return Change("variable", ENVIRONMENT, "unchanged")
    client.update_variable(VariableUpdate(name=ENVIRONMENT, value=value, tags=["recsys"]))
    return Change("variable", ENVIRONMENT, "updated")


def _release() -> str | None:
    try:
        return version(PROJECT)
    except PackageNotFoundError:  # run from its folder, without being installed
        return None


def _definitions(settings: EnvironmentSettings) -> list[Definition]:
    """Return the deployments of prefect.yaml in this environment."""
    entries, pull = read_prefect_file()
    found = [deployment_defined(entry, pull, settings) for entry in entries]
    if unknown := settings.crons.keys() - {wanted.full_name for wanted in found}:
        raise SettingsError(
            f"crons names {', '.join(sorted(unknown))}, but the deployments are {', '.join(wanted.full_name for wanted in found)}."
        )
    return found


def _with_heartbeats(wanted: Definition, settings: EnvironmentSettings) -> Definition:
    """Return the deployment whose runs send heartbeats as often as the automations expect them, if it is one of the CPU pool."""
    if wanted.fields["work_pool_name"] != CPU_POOL:
        return wanted
    env = {"env": {HEARTBEATS: str(settings.alerts.heartbeat_s)}}
    return replace(wanted, fields={**wanted.fields, "job_variables": merged(wanted.fields["job_variables"], env)})


def _for_pods(wanted: Definition, settings: EnvironmentSettings, has_store_keys: bool) -> Definition:
    """Return the deployment with the job variables of pods, if it is one of the GPU pool."""
    if wanted.fields["work_pool_name"] != GPU_POOL:
        return wanted
    variables: dict[str, Any] = {"env": pod_environment()} if has_store_keys else {}
    if settings.pools.gpu_image is not None:
        variables["image"] = settings.pools.gpu_image
    return replace(wanted, fields={**wanted.fields, "job_variables": merged(variables, wanted.fields["job_variables"])})


def _deploy(client: SyncPrefectClient, definitions: list[Definition], *, active: bool, rents: bool) -> list[Change]:
    changes = []
    for number, wanted in enumerate(definitions, start=OTHER_STEPS - 1):
        left_out = "rented" in wanted.fields["tags"] and not rents
        done = NO_KEY if left_out else apply_deployment(client, wanted, active)
        changes.append(Change("deployment", wanted.full_name, done))
        report(SETUP, number, len(definitions) + OTHER_STEPS, f"deployment {wanted.full_name}: {done}")
    return changes


def _start_retraining_when_due(client: SyncPrefectClient, model_name: str) -> Change:
    name, old = due_automation(model_name), name_of_old(model_name)
    before, older = client.read_automations_by_name(name), client.read_automations_by_name(old)
    known = before or older  # who has switched the old one off wants no retraining that starts by itself
    retrain_when_due(model_name, enabled=known[0].enabled if known else True)
    remove_automation(client, old)
    same = before == client.read_automations_by_name(name)
    return Change("automation", name, "created" if not before else "unchanged" if same else "updated")


def _set_up_alerts(client: SyncPrefectClient, alerts: AlertSettings) -> list[Change]:
    resume, switch = client.read_deployment_by_name(RESUME).id, block_id(client, SWITCH)
    wanted = wanted_automations(alerts, _recipients(client, alerts), resume, switch)
    changes = [Change("automation", automation.name, apply_automation(client, automation)) for automation in wanted]
    for name in ALERTS:
        if name not in {automation.name for automation in wanted}:
            left_out = {RESUMED: NO_RESUMING, PINGED: NO_SWITCH}.get(name, NO_RECIPIENT)
            changes.append(Change("automation", name, "removed" if remove_automation(client, name) else left_out))
    return changes


def _check_recipients(client: SyncPrefectClient, alerts: AlertSettings, given: Iterable[Secret]) -> None:
    """Raise SettingsError if a block that alerts are sent to is neither on the server nor among the given secrets."""
    for name in alerts.blocks:
        if block_id(client, name) is None and name not in {secret.block for secret in given}:
            raise SettingsError(
                f"alerts.blocks names {name}, which is not on the server. Create it in the UI (Blocks) or with `prefect block "
                "create`, or remove it from the list."
            )


def _recipients(client: SyncPrefectClient, alerts: AlertSettings) -> list[UUID]:
    """Return the ids of the blocks that alerts are sent to: those of the settings, and the block of DISCORD_WEBHOOK_URL."""
    found = [block_id(client, name) for name in dict.fromkeys([*alerts.blocks, DISCORD])]
    return [id_ for id_ in found if id_ is not None]
