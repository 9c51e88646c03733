"""Settings of an environment: the Prefect server's work pools, schedules, alerts and the parameters of its runs.

`recsys setup` brings a server into this state. Credentials are not settings: workers read theirs from their environment. Setup
reads the key of a webhook or provider from its own environment and stores it in an encrypted block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from configs.base import Settings
from configs.settings import RetrainSettings
from infra.prefect_server.crons import cron_fault

__all__ = ["CPU_POOL", "HEARTBEAT_S", "AlertSettings", "EnvironmentSettings", "PoolSettings"]

CPU_POOL = "recsys"
"""The work pool of this machine's processes."""
HEARTBEAT_S = 180
"""Default of alerts.heartbeat_s, also for runs of `resume` that a person starts."""


class PoolSettings(Settings):
    """Concurrency limits of the work pools."""

    concurrency_limit: int | None = Field(default=8, ge=1)
    """Maximum number of concurrent runs over all queues. If empty, there is no limit."""
    training_limit: int | None = Field(default=1, ge=1)
    """Maximum number of concurrent runs in the queue `training`. Each run uses the whole machine. If empty, there is no limit."""
    gpu_limit: int | None = Field(default=2, ge=1)
    """Maximum number of concurrent GPU pods. It bounds the hourly cost of a mistake. If empty, there is no limit."""
    gpu_image: str | None = Field(default=None, pattern=r"^\S+$")
    """Image of the GPU pods by its digest, as <registry>/<name>@sha256:..., built from infra/docker/train.Dockerfile. If empty, the
    image of the work pool's own form. There is no default: a pod gets the keys of the store and the Prefect server."""


class AlertSettings(Settings):
    """Recipients of alerts, when a run counts as crashed, and whether it resumes."""

    blocks: tuple[str, ...] = ()
    """Prefect notification blocks as `<type>/<name>`, such as `slack-webhook/ops`. If DISCORD_WEBHOOK_URL is set, setup creates
    the block `discord-webhook/recsys` from it and adds it here."""
    heartbeat_s: int = Field(default=HEARTBEAT_S, ge=30)
    """Seconds between two heartbeats of a run. Setup gives the number to the runs of deployments of the CPU pool. For others, set PREFECT_FLOWS_HEARTBEAT_FREQUENCY to it."""
    missed_heartbeats: int = Field(default=3, ge=2)
    """Number of consecutive missed heartbeats after which a run counts as crashed, because its process or machine was lost."""
    start_s: int = Field(default=1800, ge=10)
    """Seconds within which a run must start after a worker of the pool `recsys` has taken it. After that it counts as crashed, because
    its worker was lost. Without this, it would hold its queue's slot for ever."""
    runbook: str = Field(default="docs/operations/runbook.md", pattern=r"^\S+$")
    """Address of the runbook, to which each message adds its section. Set it if you publish the site of the documentation, as
    `https://<host>/operations/runbook.html`."""
    resume_crashed: bool = True
    """Whether a run of `etl` or `monitor`, a training, search, comparison or replay that crashes is started again by itself. A training
    goes on from its last epoch. It does so once: a second crash is final."""

    @field_validator("blocks")
    @classmethod
    def _have_a_type(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        for block in blocks:
            kind, slash, name = block.partition("/")
            if not (kind and slash and name) or "/" in name:
                raise ValueError(f"{block} is not a block name: write <type>/<name>, for example discord-webhook/recsys")
        return blocks


class EnvironmentSettings(Settings):
    """Configuration of one Prefect server."""

    environment: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Name of the environment. Setup refuses a server that belongs to another environment, unless it is run with --take-over."""
    timezone: str | None = None
    """Time zone of all schedules, such as Europe/Berlin. If empty, each schedule keeps its time zone from prefect.yaml."""
    schedules: bool = True
    """Whether new schedules are active. Existing schedules keep their current state."""
    crons: dict[str, str] = Field(default_factory=dict)
    """Cron expressions by deployment name, such as `{retrain/retrain: "0 4 * * *"}`. Each one replaces the deployment's schedule
    in prefect.yaml, or adds one if it has none."""
    code: Path | None = None
    """Folder in which the workers find the project. If empty, the folder that setup runs from."""
    retraining: RetrainSettings = RetrainSettings()
    """Settings that differ from the defaults in every run of this environment. Each deployment gets the sections that its form
    has."""
    pools: PoolSettings = PoolSettings()
    alerts: AlertSettings = AlertSettings()

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, timezone: str | None) -> str | None:
        if timezone is not None:
            from prefect.client.schemas.schedules import CronSchedule

            try:
                CronSchedule(cron="0 0 * * *", timezone=timezone)
            except ValueError as error:
                raise ValueError(f"{timezone} is not a time zone; use a name such as Europe/Berlin or Etc/UTC") from error
        return timezone

    @field_validator("crons")
    @classmethod
    def _can_fire(cls, crons: dict[str, str]) -> dict[str, str]:
        for name, cron in crons.items():
            if fault := cron_fault(cron):
                raise ValueError(f"{name}: {fault}")
        return crons

    @model_validator(mode="after")
    def _keeps_no_credentials(self) -> EnvironmentSettings:
        if self.retraining.store.secret_access_key is not None or self.retraining.store.access_key_id is not None:
            raise ValueError(
                "retraining.store contains credentials, and everyone who can see the Prefect server can read the parameters "
                "of deployments. Leave them out, and give the workers AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a "
                "profile or a role"
            )
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """The explicitly set settings of `retraining`, as JSON-compatible values."""
        return self.retraining.model_dump(mode="json", exclude_unset=True)
