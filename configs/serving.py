"""Settings of `recsys serve`, with their one default."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from configs.base import Settings
from configs.experiments import ExposureSettings
from configs.settings import RetrainSettings, StoreSettings

__all__ = ["BatchSettings", "LimitSettings", "RedisSettings", "ServingSettings", "StateSettings"]


class RedisSettings(Settings):
    """Where users' events and states live, shared by all workers and replicas."""

    url: str | None = None
    """`redis://host:6379/0`, `rediss://` or `unix://`; without one, states live in the memory of each worker."""
    prefix: str = Field(default="recsys", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """What every key begins with."""
    timeout_s: float = Field(default=0.25, gt=0)
    """Seconds after which Redis counts as down; a request then goes on without it."""
    retry_s: float = Field(default=1.0, gt=0)
    """Seconds until Redis is asked again after it was down."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is not None and not given.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://host:port/number, rediss://... or unix://path")
        return given


class StateSettings(Settings):
    """What is remembered of users."""

    events: int = Field(default=1000, ge=4, le=5000)
    """Latest events kept of a user, 24 bytes each: they are what the seen filter sees and what states are rebuilt from."""
    events_ttl_s: int = Field(default=90 * 86_400, ge=1)
    """Seconds after a user's last event in which the events are forgotten."""
    state_ttl_s: int = Field(default=7 * 86_400, ge=1)
    """Seconds after which an unused state is dropped; it is rebuilt from the events."""
    local_mb: int = Field(default=256, ge=1)
    """MiB of users' events and states kept in each worker: all there is without Redis, a copy for when Redis is down."""
    unsent_users: int = Field(default=100_000, ge=1)
    """Users whose events wait in a worker for Redis to come back; the events of more are forgotten as memory ends."""


class LimitSettings(Settings):
    """What a client may ask for."""

    body_bytes: int = Field(default=2 << 20, ge=1024)
    history: int = Field(default=10_000, ge=1)
    """Events of a history given with a request."""
    events: int = Field(default=1000, ge=1)
    """Events of one `POST /v1/events`."""
    k: int = Field(default=500, ge=1)
    future_s: int = Field(default=300, ge=0)
    """Seconds that an event may lie ahead of this machine's clock. A recommendation that is asked for a time further from the clock
    is a question of what would be shown, and is no exposure."""
    rate_per_s: float | None = Field(default=None, gt=0)
    """Requests a second of one client (its API key, else its address) in each worker; None does not limit."""
    burst: int = Field(default=50, ge=1)
    """Requests that a client may send at once above the rate."""
    api_keys: tuple[SecretStr, ...] = ()
    """Accepted values of the header X-API-Key; empty asks for none. /healthz, /readyz and /metrics never do."""
    queue: int = Field(default=2048, ge=1)
    """Requests that may wait for the engine; more are turned away with 503 and Retry-After."""


class BatchSettings(Settings):
    """Requests that wait together are scored by one matrix product."""

    requests: int = Field(default=32, ge=1)
    """Most requests of one batch."""
    cache_entries: int = Field(default=10_000, ge=0)
    """Recommendations kept in each worker."""
    cache_s: float = Field(default=2.0, ge=0)
    """Seconds in which the same question about a user whose events are the same gets the same answer."""


class ServingSettings(Settings):
    """A server that answers from the champion of one model name, and follows its promotion log."""

    model_name: str = RetrainSettings().model_name
    store: StoreSettings = StoreSettings()
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1)
    """Processes; they share Redis and nothing else."""
    poll_s: float = Field(default=2.0, gt=0)
    """Seconds between looks at the promotion log."""
    versions: tuple[str, ...] = ()
    """Versions kept loaded beside the champion, for requests that name them."""
    retired: int = Field(default=1, ge=0)
    """Former champions kept loaded, so that a rollback is instant."""
    work_dir: Path = Path(".recsys/serving")
    """Folder of the fetched versions."""
    shutdown_s: int = Field(default=20, ge=1)
    """Seconds in which requests under way may end after SIGTERM."""
    log_requests: bool = True
    """One JSON line a request on standard error."""
    rules: Path | None = None
    """YAML file of business rules, read anew when it changes."""
    experiments: Path | None = None
    """YAML file of experiments and shadow versions, read anew when it changes."""
    exposures: ExposureSettings | None = None
    """Where to log who was shown what; without it, only experiments and shadows are, at the defaults."""
    redis: RedisSettings = RedisSettings()
    state: StateSettings = StateSettings()
    limits: LimitSettings = LimitSettings()
    batch: BatchSettings = BatchSettings()
