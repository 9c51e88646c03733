"""Settings of `recsys serve` and their defaults."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from configs.addresses import is_loopback
from configs.base import Settings
from configs.kinds import Plugins
from configs.serving.access import AccessSettings
from configs.serving.experiments import ExposureSettings, OutcomeSettings
from configs.settings import RetrainSettings, StoreSettings

__all__ = ["BatchSettings", "HistorySettings", "LimitSettings", "RedisSettings", "ServingSettings", "StateSettings"]

KEY_LENGTH = 16
KEY = re.compile(rf"[!-~]{{{KEY_LENGTH},}}")  # what an HTTP header can carry


class RedisSettings(Settings):
    """Redis stores users' events and states, shared by all workers and replicas."""

    url: str | None = None
    """URL of the Redis server: `redis://host:6379/0`, `rediss://` or `unix://`. If empty, states are kept in the memory of each
    worker."""
    prefix: str = Field(default="recsys", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """Prefix of every key."""
    timeout_s: float = Field(default=0.25, gt=0)
    """Seconds that one call to Redis may take, connecting and sending waiting events included. Redis then counts as down, and the
    request continues without it. Redis also counts as down if its latest responses took more than 40 % of this time on average."""
    retry_s: float = Field(default=1.0, gt=0)
    """Seconds before Redis is tried again after it was down. They double, up to 30, if it is down again within ten seconds."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is not None and not given.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://host:port/number, rediss://... or unix://path")
        return given


class StateSettings(Settings):
    """Retention of users' events and states."""

    events: int = Field(default=1000, ge=4, le=5000)
    """Number of latest events kept per user, 24 bytes each. The filter of seen items uses them, and states are rebuilt from
    them."""
    events_ttl_s: int = Field(default=90 * 86_400, ge=1)
    """Seconds after a user's last event after which the user's events are deleted."""
    state_ttl_s: int = Field(default=7 * 86_400, ge=1)
    """Seconds after which an unused state is dropped. It is rebuilt from the events when needed."""
    local_mb: int = Field(default=256, ge=1)
    """Memory in MiB for users' events and states in each worker. Without Redis it is the only storage, and the users who were
    inactive longest are forgotten. With Redis it is a copy for when Redis is down. Events that Redis does not have are kept before
    all copies; if no more of them fit, new events are refused with 503."""
    unsent_users: int = Field(default=100_000, ge=1)
    """Maximum number of users whose events wait in a worker until Redis is available again. Events of further users are refused
    with 503, so that no accepted event is lost."""


class HistorySettings(Settings):
    """What the champion's dataset knows of a user, before and beside the events that are reported to the server."""

    enabled: bool = True
    """Serve each user by the latest events of the dataset, too. Otherwise a user is unknown until an event is reported."""
    tolerance_s: int = Field(default=5, ge=0)
    """Seconds by which the times of a reported event and of the same event in the dataset may differ. The event then counts once."""


class LimitSettings(Settings):
    """Limits on client requests."""

    body_bytes: int = Field(default=2 << 20, ge=1024)
    """Maximum size of a request body in bytes."""
    held_mb: int = Field(default=32, ge=1)
    """Memory in MiB for request bodies in each worker, half sent or waiting for their turn. Further bodies are rejected with 429
    and Retry-After. Bodies of up to 4 KiB do not count."""
    head_bytes: int = Field(default=16 << 10, ge=1024, le=1 << 20)
    """Maximum size of a request's first line and headers in bytes."""
    receive_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Seconds in which a request must arrive, from the first byte of its headers to the last byte of its body. A client that takes
    longer gets 408, and its connection is closed. The client has the same time to read the response."""
    connections: int = Field(default=4096, ge=1)
    """Maximum number of open connections in each worker. A further client takes the place of the connection that has been idle for
    longest. If none is idle, it gets 503. Keep it above `queue`, so that requests are rejected before connections, and health checks
    still get through."""
    idle_s: int = Field(default=75, ge=1)
    """Seconds for which a connection stays open without a request. Keep it above the time for which your proxy or load balancer keeps
    idle connections: if the server closes one at the moment at which a request is sent on it, the request is lost."""
    history: int = Field(default=10_000, ge=1)
    """Maximum number of events in a history that is sent with a request."""
    events: int = Field(default=1000, ge=1)
    """Maximum number of events in one `POST /v1/events`, and of outcomes in one `POST /v1/outcomes`."""
    k: int = Field(default=500, ge=1)
    """Maximum number of recommendations that a request can ask for."""
    future_s: int = Field(default=300, ge=0)
    """Maximum number of seconds that an event or an outcome may be ahead of this machine's clock. A request for recommendations at
    a time further from the clock is hypothetical and is not logged as an exposure."""
    rate_per_s: float | None = Field(default=None, gt=0)
    """Requests per second of one client (by API key, or else by address) in each worker. If empty, the rate is not limited. Wrong
    keys are always limited: ten from one address, and then one per second."""
    address_rate_per_s: float | None = Field(default=None, gt=0)
    """Requests per second from one address in each worker, whatever the key. If empty, only `rate_per_s` counts."""
    burst: int = Field(default=50, ge=1)
    """Number of requests that a client may send at once above the rate."""
    api_keys: tuple[SecretStr, ...] = ()
    """Accepted values of the header X-API-Key, of at least 16 characters each. They may do everything. Keys with names and scopes, and
    without the key in clear text, belong into the file `access.keys`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks (such as 10.0.3.0/24) of proxies whose header X-Forwarded-For is believed. Other clients count by the
    address that they connect from."""
    queue: int = Field(default=2048, ge=1)
    """Maximum number of requests that wait for the engine. Further requests are rejected with 503 and Retry-After."""

    @field_validator("api_keys")
    @classmethod
    def _are_hard_to_guess(cls, given: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate(given, start=1):
            if not KEY.fullmatch(key.get_secret_value()):
                raise ValueError(
                    f"key {number} of {len(given)} is empty, shorter than {KEY_LENGTH} characters, or has characters other than "
                    "visible ASCII; make one with `openssl rand -hex 24`, and check that the variable it comes from is set"
                )
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for address in given:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                raise ValueError(f"{error}; write an address such as 10.0.3.7 or a network such as 10.0.3.0/24") from error
        return given

    @model_validator(mode="after")
    def _holds_a_body(self) -> LimitSettings:
        if self.held_mb << 20 < self.body_bytes:
            raise ValueError(
                f"held_mb ({self.held_mb} MiB) is smaller than one body of body_bytes ({self.body_bytes:,} bytes): raise held_mb"
            )
        return self


class BatchSettings(Settings):
    """Batching and caching. Waiting requests are scored together in one matrix product."""

    requests: int = Field(default=32, ge=1)
    """Maximum number of requests in one batch."""
    cache_entries: int = Field(default=10_000, ge=0)
    """Maximum number of cached responses in each worker."""
    cache_mb: int = Field(default=32, ge=0)
    """Maximum memory in MiB for cached responses in each worker."""
    cache_s: float = Field(default=2.0, ge=0)
    """Seconds for which a response is cached. A repeated request gets the cached response if the user's events have not
    changed."""


class ServingSettings(Settings):
    """A server that recommends with the champion of one model and follows the model's promotion log."""

    model_name: str = RetrainSettings().model_name
    """Name of the model to serve."""
    store: StoreSettings = StoreSettings()
    plugins: Plugins = ()
    """Specs of models from other packages, as `package.module:NAME`, as in `models.plugins`. Packages with an entry point in the group
    `recsys.models` are found without it."""
    host: str = "127.0.0.1"
    """Address that the server listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port that the server listens on."""
    workers: int = Field(default=1, ge=1)
    """Number of worker processes. They share only Redis."""
    poll_s: float = Field(default=2.0, gt=0)
    """Seconds between two reads of the promotion log."""
    versions: tuple[str, ...] = ()
    """Versions, or their beginnings, that stay loaded alongside the champion, for requests that name them. `latest` and `previous` are
    names, too."""
    retired: int = Field(default=1, ge=0)
    """Number of former champions that stay loaded, so that a rollback takes effect instantly."""
    work_dir: Path = Path(".recsys/serving")
    """Folder for downloaded model versions."""
    shutdown_s: int = Field(default=20, ge=1)
    """Seconds that requests in progress may take to finish when the server stops."""
    drain_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Seconds for which the server goes on answering after SIGTERM before it stops. Meanwhile `/readyz` answers 503, and each response
    closes its connection. Set it to more than your proxy or load balancer needs to notice and to close idle connections; then an update
    loses no request. SIGINT (Ctrl+C) stops the server without this wait."""
    log_requests: bool = True
    """Write one JSON line per request to standard error."""
    rules: Path | None = None
    """YAML file of business rules. It is reloaded when it changes."""
    experiments: Path | None = None
    """YAML file of experiments and shadow versions. It is reloaded when it changes."""
    exposures: ExposureSettings | None = None
    """Exposure log. If empty, only exposures of experiments and shadow versions are logged, with the default settings."""
    outcomes: OutcomeSettings = OutcomeSettings()
    redis: RedisSettings = RedisSettings()
    state: StateSettings = StateSettings()
    histories: HistorySettings = HistorySettings()
    limits: LimitSettings = LimitSettings()
    access: AccessSettings = AccessSettings()
    batch: BatchSettings = BatchSettings()

    @property
    def reachable(self) -> bool:
        """Whether other machines can reach the server."""
        return not is_loopback(f"http://{_in_url(self.access.published_at or self.host)}")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
