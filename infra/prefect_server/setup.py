"""Bring a Prefect server into the state that an environment defines. Setup is idempotent: a second run changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.errors import SettingsError
from configs.loading import merged
from configs.redaction import safe_settings
from configs.runpod import RunPodSettings
from infra.prefect_server.alerts import ALERTS, apply_automation, remove_automation, wanted_automations
from infra.prefect_server.automations import retrain_on_drift
from infra.prefect_server.deployments import Definition, apply_deployment, deployment_defined, read_prefect_file
from infra.prefect_server.environment import EnvironmentSettings, PoolSettings
from infra.prefect_server.pod_credentials import TRAINER, TrainerKeys, pod_environment, read_credentials

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["Change", "set_up"]

CPU_POOL, GPU_POOL = "recsys", "recsys-gpu"
ENVIRONMENT = "recsys_environment"
DISCORD = "discord-webhook/recsys"
RUNPOD = f"runpod-credentials/{RunPodSettings().credentials_block}"
NO_STORE_KEYS = "left out: no store credentials are set for rented pods (AWS_TRAINER_CREDENTIALS)"
NO_KEY = "left out: this server has no RunPod key (RUNPOD_API_KEY)"


@dataclass(frozen=True)
class Change:
    """What setup did to one object: `created`, `updated: ...`, `removed`, `unchanged`, or `left out: ...` with the reason."""

    kind: str
    name: str
    done: str

    @property
    def changed(self) -> bool:
        return self.done != "unchanged" and not self.done.startswith("left out")


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
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        raise SettingsError(
            "PREFECT_API_URL is not set, so there is no server to set up. Start one (`prefect server start`) and set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api."
        )
    with get_client(sync_client=True) as client:
        failed = client.api_healthcheck()
        if failed is not None:
            raise SettingsError(
                f"The Prefect server at {client.api_url} does not answer ({failed!r}). Start it, or correct PREFECT_API_URL."
            )
        changes = [_environment(client, settings, take_over)]
        changes += _blocks(client, secrets)
        rents = _found_block(client, RUNPOD) is not None
        if rents and settings.retraining.store.url.startswith("s3:") and _found_block(client, TRAINER) is None:
            changes.append(Change("block", TRAINER, NO_STORE_KEYS))
        changes += _pools(client, settings.pools, rents)
        changes += _deployments(client, settings, rents)
        changes += _alerts(client, settings)
    return changes


def _environment(client: SyncPrefectClient, settings: EnvironmentSettings, take_over: bool) -> Change:
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


def _pools(client: SyncPrefectClient, settings: PoolSettings, rents: bool) -> list[Change]:
    changes = [_pool(client, CPU_POOL, "process", "Processes on the worker's machine.", settings.concurrency_limit)]
    changes += [
        _queue(client, "urgent", 1, None, "Runs that a person is waiting for."),
        _queue(client, "default", 2, None, "The work pool's default queue."),
        _queue(client, "training", 3, settings.training_limit, "Runs that use the entire machine."),
    ]
    if not rents:
        return [*changes, Change("work pool", GPU_POOL, NO_KEY)]
    return [*changes, _pool(client, GPU_POOL, "runpod", "Pods with a GPU, rented by the second.", settings.gpu_limit)]


def _pool(client: SyncPrefectClient, name: str, kind: str, description: str, limit: int | None) -> Change:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.base import BaseWorker

    import infra.runpod.worker  # noqa: F401 - registers its type

    worker = BaseWorker.get_worker_class_from_type(kind)
    assert worker is not None
    template = worker.get_default_base_job_template()
    wanted: dict[str, Any] = {"description": description, "concurrency_limit": limit}
    try:
        current = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template, **wanted))
        return Change("work pool", name, "created")
    if current.type != kind:
        raise SettingsError(
            f"The work pool {name} exists with the type {current.type}, not {kind}. A pool's type cannot be changed. Delete it "
            "in the UI (its deployments have no pool until setup runs again), or use another server."
        )
    differing = [key for key, value in wanted.items() if getattr(current, key) != value]
    if not differing:
        return Change("work pool", name, "unchanged")  # the job template is not compared: people may edit it
    client.update_work_pool(name, WorkPoolUpdate(**wanted))
    return Change("work pool", name, f"updated: {', '.join(differing)}")


def _queue(client: SyncPrefectClient, name: str, priority: int, limit: int | None, description: str) -> Change:
    from prefect.exceptions import ObjectNotFound

    full = f"{CPU_POOL}/{name}"
    wanted: dict[str, Any] = {"priority": priority, "concurrency_limit": limit, "description": description}
    try:
        current = client.read_work_queue_by_name(name, work_pool_name=CPU_POOL)
    except ObjectNotFound:
        client.create_work_queue(name=name, work_pool_name=CPU_POOL, **wanted)
        return Change("work queue", full, "created")
    differing = [key for key, value in wanted.items() if getattr(current, key) != value]
    if not differing:
        return Change("work queue", full, "unchanged")
    client.update_work_queue(current.id, **wanted)
    return Change("work queue", full, f"updated: {', '.join(differing)}")


def _blocks(client: SyncPrefectClient, secrets: Mapping[str, str]) -> list[Change]:
    changes = []
    if url := _secret(secrets, "DISCORD_WEBHOOK_URL"):
        changes.append(_discord(url))
    if key := _secret(secrets, "RUNPOD_API_KEY"):
        from infra.runpod import RunPodCredentials

        changes.append(_block(RUNPOD, RunPodCredentials, {"api_key": key}))
    if text := _secret(secrets, "AWS_TRAINER_CREDENTIALS"):
        changes.append(_block(TRAINER, TrainerKeys, read_credentials(text)))
    return changes


def _secret(secrets: Mapping[str, str], name: str) -> str | None:
    """Return a secret from the environment or from the file at `<name>_FILE`, or None if it is not set.

    Raises SettingsError if the file cannot be read.
    """
    if file := secrets.get(f"{name}_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise SettingsError(f"{name}_FILE names {file}, which cannot be read ({error.strerror}).") from error
    return secrets.get(name, "").strip() or None


def _discord(url: str) -> Change:
    from urllib.parse import urlsplit

    from prefect.blocks.notifications import DiscordWebhook

    parts = urlsplit(url).path.strip("/").split("/")
    if urlsplit(url).scheme != "https" or len(parts) != 4 or parts[:2] != ["api", "webhooks"]:
        raise SettingsError("DISCORD_WEBHOOK_URL is not a Discord webhook. Write https://discord.com/api/webhooks/<id>/<token>.")
    return _block(DISCORD, DiscordWebhook, {"webhook_id": parts[2], "webhook_token": parts[3]})


def _block(full_name: str, kind: Any, secret_fields: dict[str, str]) -> Change:
    name = full_name.partition("/")[2]
    try:
        current = kind.load(name)
    except ValueError:
        kind(**secret_fields).save(name)
        return Change("block", full_name, "created")
    if all(getattr(current, key).get_secret_value() == value for key, value in secret_fields.items()):
        return Change("block", full_name, "unchanged")
    kind(**{**current.model_dump(exclude=set(secret_fields)), **secret_fields}).save(name, overwrite=True)
    return Change("block", full_name, "updated")


def _deployments(client: SyncPrefectClient, settings: EnvironmentSettings, rents: bool) -> list[Change]:
    entries, pull = read_prefect_file()
    wanted_ones = [deployment_defined(entry, pull, settings) for entry in entries]
    if unknown := settings.crons.keys() - {wanted.full_name for wanted in wanted_ones}:
        raise SettingsError(
            f"crons names {', '.join(sorted(unknown))}, but the deployments are {', '.join(wanted.full_name for wanted in wanted_ones)}."
        )
    if _found_block(client, TRAINER) is not None:
        wanted_ones = [_with_store_keys(wanted) for wanted in wanted_ones]
    changes = []
    for wanted in wanted_ones:
        left_out = "rented" in wanted.fields["tags"] and not rents
        done = NO_KEY if left_out else apply_deployment(client, wanted, settings.schedules)
        changes.append(Change("deployment", wanted.full_name, done))
    return changes


def _with_store_keys(wanted: Definition) -> Definition:
    if wanted.fields["work_pool_name"] != GPU_POOL:
        return wanted
    variables = merged({"env": pod_environment()}, wanted.fields["job_variables"])
    return replace(wanted, fields={**wanted.fields, "job_variables": variables})


def _alerts(client: SyncPrefectClient, settings: EnvironmentSettings) -> list[Change]:
    blocks = [_block_id(client, name) for name in settings.alerts.blocks]
    own = _found_block(client, DISCORD)
    if own is not None and own not in blocks:
        blocks.append(own)
    wanted = wanted_automations(settings.alerts, blocks)
    changes = [_retrain_on_drift(client, settings.retraining.model_name)]
    changes += [Change("automation", automation.name, apply_automation(client, automation)) for automation in wanted]
    for name in ALERTS:
        if name not in {automation.name for automation in wanted}:
            left_out = "left out: no recipient is set (alerts.blocks, DISCORD_WEBHOOK_URL)"
            changes.append(Change("automation", name, "removed" if remove_automation(client, name) else left_out))
    return changes


def _retrain_on_drift(client: SyncPrefectClient, model_name: str) -> Change:
    name = f"retrain {model_name} on drift"
    before = client.read_automations_by_name(name)
    retrain_on_drift(model_name, enabled=before[0].enabled if before else True)
    same = before == client.read_automations_by_name(name)
    return Change("automation", name, "created" if not before else "unchanged" if same else "updated")


def _block_id(client: SyncPrefectClient, full_name: str) -> UUID:
    found = _found_block(client, full_name)
    if found is None:
        raise SettingsError(
            f"alerts.blocks names {full_name}, which is not on the server. Create it in the UI (Blocks) or with `prefect block "
            "create`, or remove it from the list."
        )
    return found


def _found_block(client: SyncPrefectClient, full_name: str) -> UUID | None:
    from prefect.exceptions import ObjectNotFound

    kind, _, name = full_name.partition("/")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        return None
