"""How a worker calls RunPod and watches its pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from prefect_runpod.errors import SettingsError
from prefect_runpod.texts.addresses import is_loopback

__all__ = ["POOL_TYPE", "PREFIX", "USER_AGENT", "RunPodSettings"]

POOL_TYPE = "runpod"
"""Type of the work pools whose runs get a rented pod each."""

PREFIX = "PREFECT_RUNPOD_"
ADDRESS = "RUNPOD_API_BASE_URL"
MOST_S = 10 * 365 * 86_400  # the clocks of the operating system cannot wait for much longer
USER_AGENT = "prefect-runpod/1 (httpx)"  # RunPod's proxy rejects the default user agents of some libraries


class RunPodSettings(BaseModel):
    """How a worker calls RunPod and watches its pods.

    Each setting is read from the variable PREFECT_RUNPOD_<NAME>. base_url is also read from RUNPOD_API_BASE_URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    prefix: ClassVar[str] = PREFIX

    base_url: str = "https://api.runpod.io"
    """Root URL of the API, without /v2."""
    credentials_block: str = "runpod"
    """Name of the RunPod Credentials block that holds the API key. RUNPOD_API_KEY in the worker's environment takes
    precedence."""
    server_url: str | None = None
    """Address of the Prefect server for pods, which must reach it over the internet. If empty, the worker's own PREFECT_API_URL."""
    allow_private_addresses: bool = False
    """Whether pods reach private addresses, for example through a VPN. By default, a run whose Prefect server has a private address,
    or takes passwords unencrypted, is refused before a pod is rented."""
    allow_image_tags: bool = False
    """Whether an image may be named by a tag, which can change under a run. By default, it must be named by its digest."""
    allow_other_commit: bool = False
    """Whether a pod trains although its image was built from another commit than the worker's code. The difference is then only
    logged."""
    look_every_s: float = Field(default=12.0, gt=0)
    """Seconds between two checks of the account's pods. Each check is one list call, regardless of the number of runs."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds without a response after which a request fails."""
    attempts: int = Field(default=4, ge=1)
    """Maximum number of attempts for a read or delete request that fails with a transient error."""
    requests_per_minute: int = Field(default=50, ge=1)
    """Maximum number of requests per minute until RunPod's RateLimit-Policy header has reported the account's limits."""
    backoff_s: float = Field(default=1.0, gt=0)
    """Seconds before the first retry. The wait doubles with each further retry."""
    max_backoff_s: float = Field(default=60.0, gt=0)
    """Maximum wait in seconds between two attempts, and between two rounds through the GPU types while none is available."""
    looks_to_miss: int = Field(default=2, ge=2)
    """Number of consecutive checks without a pod, or without its flow run, after which it counts as missing. A single check may
    have started before the pod was created."""
    lost_after_s: float = Field(default=60.0, ge=0)
    """Seconds that a pending run must be without a pod, and without a worker handling it, before it is submitted again."""
    cancel_grace_s: float = Field(default=60.0, ge=0)
    """Seconds that a started run may take to cancel itself before its pod is deleted."""
    uptime_slack_s: float = Field(default=10.0, ge=0)
    """Seconds by which the container uptime reported by RunPod may lag before the container counts as restarted."""
    restart_slack_s: float = Field(default=60.0, ge=0)
    """Seconds by which a container may appear younger than its run before it counts as restarted. Applies if no check saw the
    restart."""
    restarts_to_crash: int = Field(default=3, ge=1)
    """Number of restarts of a container after which a run that has not started counts as crashed."""
    linger_s: float = Field(default=120.0, ge=0)
    """Seconds after the end of its run that a pod waits to be deleted from outside before it tries to delete itself."""
    log_lines: int = Field(default=40, ge=0, le=5000)
    """Number of last lines of a pod's log that are kept with a run that crashed in the pod."""

    @field_validator("*")
    @classmethod
    def _can_be_waited_for(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name is not None and info.field_name.endswith("_s") and isinstance(value, int | float) and value > MOST_S:
            raise ValueError(f"the value must be at most {MOST_S} seconds, which is ten years")
        return value

    @field_validator("server_url")
    @classmethod
    def _empty_is_absent(cls, url: str | None) -> str | None:
        return (url or "").strip() or None

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        if urlsplit(url).scheme != "https" and not (urlsplit(url).scheme == "http" and is_loopback(url)):
            raise ValueError(f"{url!r} must start with https://: the API key is sent there (http:// is for this machine only)")
        return url.rstrip("/").removesuffix("/v2")

    @model_validator(mode="after")
    def _waits_are_ordered(self) -> Self:
        if self.backoff_s > self.max_backoff_s:
            raise ValueError(f"backoff_s ({self.backoff_s:g}) must not be above max_backoff_s ({self.max_backoff_s:g})")
        return self

    def for_pods(self) -> dict[str, str]:
        """Return the environment variables that a pod needs to request its own deletion."""
        default = type(self).model_fields["base_url"].default
        return {} if self.base_url == default else {ADDRESS: self.base_url}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings from environment variables.

        Raises:
            SettingsError: A value is not allowed. The message names the variable.
        """
        given = {
            name: environment[variable] for name in cls.model_fields if (variable := cls.prefix + name.upper()) in environment
        }
        if ADDRESS in environment:
            given["base_url"] = environment[ADDRESS]
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # about several settings together
                raise SettingsError(f"{cls.prefix}*: {first['msg'].removeprefix('Value error, ')}.") from error
            name = str(first["loc"][0])
            variable = ADDRESS if name == "base_url" and ADDRESS in environment else cls.prefix + name.upper()
            raise SettingsError(f"{variable} is {first['input']!r}: {first['msg']}.") from error
