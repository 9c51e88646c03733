"""Settings of rented GPUs: how the RunPod worker watches its pods, and where `retrain` trains its candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from configs.base import Settings, Share
from configs.errors import SettingsError
from configs.reachability import is_loopback, why_unreachable
from configs.redaction import shown_address

__all__ = ["POOL_TYPE", "RunPodSettings", "TrainingPlaceSettings"]

POOL_TYPE = "runpod"
"""Type of the work pools whose runs get a rented pod each."""

PREFIX = "RECSYS_RUNPOD_"
ADDRESS = "RUNPOD_API_BASE_URL"


class RunPodSettings(Settings):
    """How a worker calls RunPod and watches its pods.

    Each setting is read from the variable RECSYS_RUNPOD_<NAME>. base_url is also read from RUNPOD_API_BASE_URL.
    """

    base_url: str = "https://api.runpod.io"
    """Root URL of the API, without /v2."""
    credentials_block: str = "runpod"
    """Name of the RunPod Credentials block that holds the API key. RUNPOD_API_KEY in the worker's environment takes
    precedence."""
    server_url: str | None = None
    """Address of the Prefect server for pods, which must reach it over the internet. If empty, the worker's own PREFECT_API_URL."""
    allow_private_addresses: bool = False
    """Whether pods reach private addresses, for example through a VPN. By default, a run whose Prefect server or store has a private
    address, or takes passwords unencrypted, is refused before a pod is rented."""
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
    def _waits_are_ordered(self) -> RunPodSettings:
        if self.backoff_s > self.max_backoff_s:
            raise ValueError(f"backoff_s ({self.backoff_s:g}) must not be above max_backoff_s ({self.max_backoff_s:g})")
        return self

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
            "address. If pods reach a private address, as in a VPN, set RECSYS_RUNPOD_ALLOW_PRIVATE_ADDRESSES=true for this run's "
            "worker and for the runpod worker"
        )

    def for_pods(self) -> dict[str, str]:
        """Return the environment variables that a pod needs to request its own deletion."""
        default = type(self).model_fields["base_url"].default
        return {} if self.base_url == default else {ADDRESS: self.base_url}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RunPodSettings:
        """Read the settings from environment variables.

        Raises:
            SettingsError: A value is not allowed. The message names the variable.
        """
        given = {name: environment[variable] for name in cls.model_fields if (variable := PREFIX + name.upper()) in environment}
        if ADDRESS in environment:
            given["base_url"] = environment[ADDRESS]
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # about several settings together
                raise SettingsError(f"{PREFIX}*: {first['msg'].removeprefix('Value error, ')}.") from error
            name = str(first["loc"][0])
            variable = ADDRESS if name == "base_url" and ADDRESS in environment else PREFIX + name.upper()
            raise SettingsError(f"{variable} is {first['input']!r}: {first['msg']}.") from error


class TrainingPlaceSettings(Settings):
    """Where the candidates of a run are trained."""

    where: Literal["inline", "deployment"] = "inline"
    """Place of training. `inline`: in the run itself. `deployment`: as a run of `deployment`, on a work pool with GPUs. Data and
    models are then passed through the store, which both runs must be able to reach."""
    deployment: str = Field(default="train/gpu", pattern=r"^[^/]+/[^/]+$")
    """Deployment of the flow `train`, as flow/name."""
    pods_have_plugins: bool = False
    """Whether the image of the pods contains the packages of the plugins that are trained (`RUN pip install` in
    `infra/docker/train.Dockerfile`). Without it, a training of a plugin's model is refused before a pod is rented."""
    attempts: int = Field(default=2, ge=1)
    """Maximum number of runs that are started one after the other if they crash, for example because a host is lost or a pod does
    not start. A run that fails is not repeated."""
    poll_s: float = Field(default=5.0, gt=0)
    """Seconds between two checks of the run's state."""
    cost_wait_s: float = Field(default=90.0, ge=0)
    """Maximum number of seconds that sealing a version waits for the final cost of a pod."""
    refit: bool = False
    """Train a challenger that the gate accepts once more, on all events, also those that the evaluation held out, for as many epochs as
    it needed. These weights are served if they pass their checks. The metrics stay those of the judged weights."""
    refit_min_agreement: Share = 0.2
    """Least share of the top ten that the refit model must have in common with the judged one, on average over `refit_users`. Below it,
    the judged weights are served."""
    refit_users: int = Field(default=1000, ge=1)
    """Maximum number of users, drawn at random, whose top ten of both models are compared."""
