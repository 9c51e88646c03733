"""The encrypted blocks that hold the secrets of a server: the webhook of the alerts, the key of RunPod, the keys of rented pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.errors import SettingsError
from infra.prefect_server.change import Change
from infra.prefect_server.pod_credentials import TRAINER, TrainerKeys, read_credentials
from infra.runpod import RunPodSettings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["DISCORD", "RUNPOD", "SWITCH", "Secret", "block_id", "read_secrets", "store_secret"]

DISCORD = "discord-webhook/recsys"
SWITCH = "webhook/recsys-dead-mans-switch"
RUNPOD = f"runpod-credentials/{RunPodSettings().credentials_block}"


@dataclass(frozen=True)
class Secret:
    """A block, and the secret fields that it must have."""

    block: str
    kind: Any
    fields: dict[str, str]


def read_secrets(secrets: Mapping[str, str]) -> list[Secret]:
    """Return the blocks of the secrets that are set.

    Raises SettingsError if a secret cannot be read or has another form.
    """
    found = []
    if url := _secret(secrets, "DISCORD_WEBHOOK_URL"):
        found.append(_discord(url))
    if url := _secret(secrets, "DEAD_MANS_SWITCH_URL"):
        found.append(_switch(url))
    if key := _secret(secrets, "RUNPOD_API_KEY"):
        from prefect_runpod import RunPodCredentials

        found.append(Secret(RUNPOD, RunPodCredentials, {"api_key": key}))
    if text := _secret(secrets, "AWS_TRAINER_CREDENTIALS"):
        found.append(Secret(TRAINER, TrainerKeys, read_credentials(text)))
    return found


def store_secret(secret: Secret) -> Change:
    """Store a secret in an encrypted block of the server at PREFECT_API_URL."""
    name = secret.block.partition("/")[2]
    try:
        current = secret.kind.load(name)
    except ValueError:
        secret.kind(**secret.fields).save(name)
        return Change("block", secret.block, "created")
    if all(getattr(current, key).get_secret_value() == value for key, value in secret.fields.items()):
        return Change("block", secret.block, "unchanged")
    secret.kind(**{**current.model_dump(exclude=set(secret.fields)), **secret.fields}).save(name, overwrite=True)
    return Change("block", secret.block, "updated")


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


def _discord(url: str) -> Secret:
    from urllib.parse import urlsplit

    from prefect.blocks.notifications import DiscordWebhook

    parts = urlsplit(url).path.strip("/").split("/")
    if urlsplit(url).scheme != "https" or len(parts) != 4 or parts[:2] != ["api", "webhooks"]:
        raise SettingsError("DISCORD_WEBHOOK_URL is not a Discord webhook. Write https://discord.com/api/webhooks/<id>/<token>.")
    return Secret(DISCORD, DiscordWebhook, {"webhook_id": parts[2], "webhook_token": parts[3]})


def _switch(url: str) -> Secret:
    from urllib.parse import urlsplit

    from prefect.blocks.webhook import Webhook

    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise SettingsError("DEAD_MANS_SWITCH_URL is not an address. Write https://<host>/<ping>, as the monitor shows it.")
    return Secret(SWITCH, Webhook, {"url": url})


def block_id(client: SyncPrefectClient, full_name: str) -> UUID | None:
    """Return the id of the block `<type>/<name>`, or None if the server has no such block."""
    from prefect.exceptions import ObjectNotFound

    kind, _, name = full_name.partition("/")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        return None
