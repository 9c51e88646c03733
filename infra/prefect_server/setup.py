"""Bring a Prefect server into the state that an environment defines. Setup is idempotent: a second run changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.errors import SettingsError
from configs.loading import merged
from configs.redaction import safe_settings
from infra.prefect_server.alerts import ALERTS, apply_automation, remove_automation, retrain_on_drift, wanted_automations
from infra.prefect_server.blocks import DISCORD, RUNPOD, block_id, store_secrets
from infra.prefect_server.change import Change
from infra.prefect_server.connection import server_version
from infra.prefect_server.deployments import Definition, apply_deployment, deployment_defined, read_prefect_file
from infra.prefect_server.environment import AlertSettings, EnvironmentSettings
from infra.prefect_server.pod_credentials import TRAINER, pod_environment
from infra.prefect_server.pools import GPU_POOL, NO_IMAGE, NO_KEY, has_image, set_up_pools

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["set_up"]

ENVIRONMENT = "recsys_environment"
NO_STORE_KEYS = "left out: no store credentials are set for rented pods (AWS_TRAINER_CREDENTIALS)"
NO_RECIPIENT = "left out: no recipient is set (alerts.blocks, DISCORD_WEBHOOK_URL)"


def set_up(settings: EnvironmentSettings, *, take_over: bool = False, secrets: Mapping[str, str] = os.environ) -> list[Change]:
    """Create or update everything that the environment needs on the server at PREFECT_API_URL.

    Args:
        settings: The environment.
        take_over: Set up the server even if it belongs to another environment.
        secrets: May hold DISCORD_WEBHOOK_URL, RUNPOD_API_KEY and AWS_TRAINER_CREDENTIALS (the store's credentials for rented
            pods). A name with the suffix _FILE holds the path of a file with the secret instead.

    Raises:
        SettingsError: No server is set or it does not answer, it belongs to another environment, or a block or deployment
            that the settings name does not exist.
    """
    with _server() as client:
        changes = [_record_owner(client, settings, take_over), *store_secrets(secrets)]
        rents, has_store_keys = block_id(client, RUNPOD) is not None, block_id(client, TRAINER) is not None
        if rents and not has_store_keys and settings.retraining.store.url.startswith("s3:"):
            changes.append(Change("block", TRAINER, NO_STORE_KEYS))
        changes += set_up_pools(client, settings.pools, rents)
        if rents and settings.pools.gpu_image is None and not has_image(client):
            changes.append(Change("image", GPU_POOL, NO_IMAGE))
        changes += _deploy(client, _definitions(settings, has_store_keys), active=settings.schedules, rents=rents)
        changes.append(_start_retraining_on_drift(client, settings.retraining.model_name))
        changes += _set_up_alerts(client, settings.alerts)
    return changes


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


def _record_owner(client: SyncPrefectClient, settings: EnvironmentSettings, take_over: bool) -> Change:
    """Record the owner of the server in a variable, so that a laptop's settings cannot overwrite production's."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    value = {"environment": settings.environment, "store": safe_settings(settings.retraining)["store"]["url"]}
    current = client.read_variable_by_name(ENVIRONMENT)
    if current is None:
        client.create_variable(VariableCreate(name=ENVIRONMENT, value=value, tags=["recsys"]))
        return Change("variable", ENVIRONMENT, "created")
    if current.value == value:
        return Change("variable", ENVIRONMENT, "unchanged")
    found = current.value.get("environment") if isinstance(current.value, dict) else current.value
    if found != settings.environment and not take_over:
        raise SettingsError(
            f"The Prefect server at {client.api_url} is set up for the environment {found}, but this is {settings.environment}. "
            "Correct PREFECT_API_URL or --config, or pass --take-over to set the server up for this environment."
        )
    client.update_variable(VariableUpdate(name=ENVIRONMENT, value=value, tags=["recsys"]))
    return Change("variable", ENVIRONMENT, "updated")


def _definitions(settings: EnvironmentSettings, has_store_keys: bool) -> list[Definition]:
    """Return the deployments of prefect.yaml in this environment."""
    entries, pull = read_prefect_file()
    found = [deployment_defined(entry, pull, settings) for entry in entries]
    if unknown := settings.crons.keys() - {wanted.full_name for wanted in found}:
        raise SettingsError(
            f"crons names {', '.join(sorted(unknown))}, but the deployments are {', '.join(wanted.full_name for wanted in found)}."
        )
    variables = {"env": pod_environment()} if has_store_keys else {}
    variables |= {"image": settings.pools.gpu_image} if settings.pools.gpu_image is not None else {}
    return [_for_pods(wanted, variables) for wanted in found]


def _for_pods(wanted: Definition, variables: dict[str, Any]) -> Definition:
    """Return the deployment with the job variables of pods, if it is one of the GPU pool."""
    if wanted.fields["work_pool_name"] != GPU_POOL:
        return wanted
    return replace(wanted, fields={**wanted.fields, "job_variables": merged(variables, wanted.fields["job_variables"])})


def _deploy(client: SyncPrefectClient, definitions: list[Definition], *, active: bool, rents: bool) -> list[Change]:
    changes = []
    for wanted in definitions:
        left_out = "rented" in wanted.fields["tags"] and not rents
        done = NO_KEY if left_out else apply_deployment(client, wanted, active)
        changes.append(Change("deployment", wanted.full_name, done))
    return changes


def _start_retraining_on_drift(client: SyncPrefectClient, model_name: str) -> Change:
    name = f"retrain {model_name} on drift"
    before = client.read_automations_by_name(name)
    retrain_on_drift(model_name, enabled=before[0].enabled if before else True)
    same = before == client.read_automations_by_name(name)
    return Change("automation", name, "created" if not before else "unchanged" if same else "updated")


def _set_up_alerts(client: SyncPrefectClient, alerts: AlertSettings) -> list[Change]:
    wanted = wanted_automations(alerts, _recipients(client, alerts))
    changes = [Change("automation", automation.name, apply_automation(client, automation)) for automation in wanted]
    for name in ALERTS:
        if name not in {automation.name for automation in wanted}:
            changes.append(Change("automation", name, "removed" if remove_automation(client, name) else NO_RECIPIENT))
    return changes


def _recipients(client: SyncPrefectClient, alerts: AlertSettings) -> list[UUID]:
    """Return the ids of the blocks that alerts are sent to: those of the settings, and the block of DISCORD_WEBHOOK_URL."""
    found: list[UUID] = []
    for name in alerts.blocks:
        id_ = block_id(client, name)
        if id_ is None:
            raise SettingsError(
                f"alerts.blocks names {name}, which is not on the server. Create it in the UI (Blocks) or with `prefect block "
                "create`, or remove it from the list."
            )
        found.append(id_)
    own = block_id(client, DISCORD)
    return found if own is None or own in found else [*found, own]
