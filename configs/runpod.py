"""Settings of rented GPUs: how the RunPod worker watches its pods, and where `retrain` has its candidates trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from configs.base import Settings
from configs.errors import SettingsError

__all__ = ["RunPodSettings", "TrainingPlaceSettings", "is_loopback"]

PREFIX = "RECSYS_RUNPOD_"
ADDRESS = "RUNPOD_API_BASE_URL"


def is_loopback(url: str) -> bool:
    """Whether the address names this very machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


class RunPodSettings(Settings):
    """How a worker talks to RunPod and watches its pods. Each is read from RECSYS_RUNPOD_<NAME>, base_url from RUNPOD_API_BASE_URL."""

    base_url: str = "https://api.runpod.io"
    """Root of the API, without /v2."""
    credentials_block: str = "runpod"
    """Name of the block of type RunPod Credentials that holds the key; RUNPOD_API_KEY in the worker's environment goes first."""
    look_every_s: float = Field(default=12.0, gt=0)
    """Seconds between two looks at the account's pods: one list call each, however many runs there are."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds without an answer after which a request has failed."""
    attempts: int = Field(default=4, ge=1)
    """Tries of a request that reads or deletes and failed in a way that may pass."""
    requests_per_minute: int = Field(default=50, ge=1)
    """Most requests in a minute until RunPod's own RateLimit-Policy header has told the account's limits."""
    backoff_s: float = Field(default=1.0, gt=0)
    """Seconds before the first repetition; each further one waits twice as long."""
    max_backoff_s: float = Field(default=60.0, gt=0)
    """Longest wait between two tries, and between two rounds through the GPU types while none is free."""
    looks_to_miss: int = Field(default=2, ge=2)
    """Consecutive looks without a pod, or without its flow run, after which it counts as gone; one look may have been begun
    before the pod was made."""
    lost_after_s: float = Field(default=60.0, ge=0)
    """Seconds for which a pending run was seen without a pod, once nobody works on it, before it is submitted again."""
    cancel_grace_s: float = Field(default=60.0, ge=0)
    """Seconds that a run which has begun may take to cancel itself before its pod is deleted."""
    uptime_slack_s: float = Field(default=10.0, ge=0)
    """Seconds by which RunPod's figure of a container's uptime may lag before the container counts as restarted."""
    restart_slack_s: float = Field(default=60.0, ge=0)
    """Seconds by which a container may seem younger than its run before it counts as restarted, where no look saw it happen."""
    restarts_to_crash: int = Field(default=3, ge=1)
    """Restarts of a container whose run has not begun after which the run has crashed."""
    linger_s: float = Field(default=120.0, ge=0)
    """Seconds after its run's end in which a pod expects to be deleted from outside before it tries to delete itself."""
    log_lines: int = Field(default=40, ge=0, le=5000)
    """Last lines of a pod's log that are kept with a run that crashed in it."""

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        if urlsplit(url).scheme != "https" and not (urlsplit(url).scheme == "http" and is_loopback(url)):
            raise ValueError(f"{url!r} must begin with https://: the API key goes there (http:// is for this machine only)")
        return url.rstrip("/").removesuffix("/v2")

    def for_pods(self) -> dict[str, str]:
        """What a pod must know of these to ask for its own end."""
        default = type(self).model_fields["base_url"].default
        return {} if self.base_url == default else {ADDRESS: self.base_url}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RunPodSettings:
        """Raises SettingsError naming the variable."""
        given = {name: environment[variable] for name in cls.model_fields if (variable := PREFIX + name.upper()) in environment}
        if ADDRESS in environment:
            given["base_url"] = environment[ADDRESS]
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            variable = ADDRESS if name == "base_url" and ADDRESS in environment else PREFIX + name.upper()
            raise SettingsError(f"{variable} is {first['input']!r}: {first['msg']}.") from error


class TrainingPlaceSettings(Settings):
    """Where a run's candidates are trained."""

    where: Literal["inline", "deployment"] = "inline"
    """`inline`: in the run itself; `deployment`: as a run of `deployment`, on a work pool with GPUs. Data and models then pass
    through the store, which both must reach."""
    deployment: str = Field(default="train/gpu", pattern=r"^[^/]+/[^/]+$")
    """Deployment of the flow `train`, as flow/name."""
    attempts: int = Field(default=2, ge=1)
    """Runs that may be started, one after the other, as long as they crash: a host is lost, a pod does not start. A run that
    fails is not repeated."""
    poll_s: float = Field(default=5.0, gt=0)
    """Seconds between two looks at the run."""
    cost_wait_s: float = Field(default=90.0, ge=0)
    """Seconds that sealing a version waits for the figures of a pod that is not closed yet."""
