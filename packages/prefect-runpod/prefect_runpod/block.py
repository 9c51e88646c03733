"""The Prefect block that holds the key of a RunPod account."""

from __future__ import annotations

import os

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from prefect_runpod.errors import SettingsError
from prefect_runpod.settings import RunPodSettings

__all__ = ["RunPodCredentials", "api_key"]


class RunPodCredentials(Block):
    """Credentials of a RunPod account."""

    _block_type_name = "RunPod Credentials"
    _block_type_slug = "runpod-credentials"
    _description = "API key of a RunPod account, for workers of type runpod."

    api_key: SecretStr = Field(description="API key with the right to read and write pods.")


async def api_key(settings: RunPodSettings) -> SecretStr:
    """Return the account's key, from RUNPOD_API_KEY in the environment or from the block that `settings` names.

    Raises SettingsError if there is no key.
    """
    given = os.environ.get("RUNPOD_API_KEY")
    if given:
        return SecretStr(given)
    try:
        block: RunPodCredentials = await RunPodCredentials.aload(settings.credentials_block)
    except ValueError as error:
        raise SettingsError(
            f"There is no RunPod key. Set RUNPOD_API_KEY, or save a RunPod Credentials block named "
            f"{settings.credentials_block} (in the Prefect UI under Blocks)."
        ) from error
    return block.api_key
