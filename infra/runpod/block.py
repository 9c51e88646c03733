"""The block that holds a RunPod account's key."""

from __future__ import annotations

import os

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from configs.errors import SettingsError
from configs.runpod import RunPodSettings

__all__ = ["RunPodCredentials", "api_key"]


class RunPodCredentials(Block):
    """A RunPod account."""

    _block_type_name = "RunPod Credentials"
    _block_type_slug = "runpod-credentials"
    _description = "Key of a RunPod account, for the worker of type runpod and `recsys gpu`."

    api_key: SecretStr = Field(description="API key with the right to read and write pods.")


async def api_key(settings: RunPodSettings) -> SecretStr:
    """The account's key: RUNPOD_API_KEY in the environment, or the block of `settings`. Raises SettingsError."""
    given = os.environ.get("RUNPOD_API_KEY")
    if given:
        return SecretStr(given)
    try:
        block: RunPodCredentials = await RunPodCredentials.aload(settings.credentials_block)
    except ValueError as error:
        raise SettingsError(
            f"There is no RunPod key: set RUNPOD_API_KEY, or save a block RunPod Credentials named {settings.credentials_block} (in the "
            "Prefect UI under Blocks)."
        ) from error
    return block.api_key
