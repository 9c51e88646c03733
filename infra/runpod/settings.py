"""The settings of the worker that rents pods, by this project's names and with what it knows of its store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import prefect_runpod
from configs.base import Settings
from configs.errors import SettingsError
from configs.redaction import shown_address
from prefect_runpod.texts.addresses import is_loopback, why_unreachable

__all__ = ["RunPodSettings"]


class RunPodSettings(Settings, prefect_runpod.RunPodSettings):
    """How a worker calls RunPod and watches its pods.

    Each setting is read from the variable RECSYS_RUNPOD_<NAME>. base_url is also read from RUNPOD_API_BASE_URL.
    """

    prefix: ClassVar[str] = "RECSYS_RUNPOD_"

    def why_no_store(self, url: str, endpoint_url: str | None) -> str | None:
        """Return why a pod cannot use a store, or None. The API of a test on this machine rents its pods on this machine too."""
        if is_loopback(self.base_url):
            return None
        if not url.startswith("s3:"):
            return f"store.url is {url}, which a pod cannot reach. Use s3://<bucket>/<prefix>"
        why = None if endpoint_url is None else why_unreachable(endpoint_url, allow_private=self.allow_private_addresses)
        if why is None:
            return None
        return (
            f"store.endpoint_url is {shown_address(str(endpoint_url))}, which a pod cannot use: {why}. Set the store's public https:// "
            f"address. If pods reach a private address, as in a VPN, set {self.prefix}ALLOW_PRIVATE_ADDRESSES=true for this run's "
            "worker and for the runpod worker"
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings from environment variables. Raises SettingsError, which names the variable, if a value is not allowed."""
        try:
            return super().from_environment(environment)
        except prefect_runpod.SettingsError as error:
            raise SettingsError(str(error)) from error
