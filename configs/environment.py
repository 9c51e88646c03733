"""What an environment of the product is: the Prefect server's pools, schedules, alerts and the parameters that runs get there.

`recsys setup` brings a server into this state. Credentials are no settings: workers have theirs in their environment, and
setup reads a webhook's or a provider's key from its own and keeps it in an encrypted block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from configs.base import Settings
from configs.redaction import shown_address
from configs.settings import RetrainSettings

__all__ = ["AlertSettings", "EnvironmentSettings", "PoolSettings"]


class PoolSettings(Settings):
    """Where runs are started, and how many at once."""

    concurrency_limit: int | None = Field(default=8, ge=1)
    """Runs of all queues at once."""
    training_limit: int | None = Field(default=1, ge=1)
    """Runs of the queue `training` at once: each takes the whole machine."""
    gpu_limit: int | None = Field(default=2, ge=1)
    """Pods at once: the bound on what a mistake can cost in an hour."""


class AlertSettings(Settings):
    """Who is told, and when a run counts as dead."""

    blocks: tuple[str, ...] = ()
    """Prefect notification blocks as `<type>/<name>`, such as `slack-webhook/ops`. Where DISCORD_WEBHOOK_URL is set, setup makes
    `discord-webhook/recsys` of it and adds it."""
    heartbeat_s: int = Field(default=180, ge=30)
    """Seconds between a run's heartbeats, as the workers have it (PREFECT_FLOWS_HEARTBEAT_FREQUENCY)."""
    missed_heartbeats: int = Field(default=3, ge=2)
    """Heartbeats in a row without which a run is crashed: its process or machine is gone."""

    @field_validator("blocks")
    @classmethod
    def _have_a_type(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        for block in blocks:
            kind, slash, name = block.partition("/")
            if not (kind and slash and name) or "/" in name:
                raise ValueError(f"{block} names no block: write <type>/<name>, for example discord-webhook/recsys")
        return blocks


class EnvironmentSettings(Settings):
    """One Prefect server's share of the product."""

    environment: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Its name. Setup refuses a server that another environment was set up on, unless it is told to take it over."""
    timezone: str | None = None
    """Time zone of all schedules, such as Europe/Berlin; empty, each has the one that prefect.yaml gives it."""
    schedules: bool = True
    """Whether new schedules are active. One that exists stays as people left it."""
    crons: dict[str, str] = Field(default_factory=dict)
    """When a deployment runs, in place of what prefect.yaml says, by its name: `{retrain/retrain: "0 4 * * *"}`. One that has no
    schedule there gets this one."""
    code: Path | None = None
    """Folder in which the workers find the project; empty, the one that setup runs from."""
    retraining: RetrainSettings = RetrainSettings()
    """What departs from the defaults in every run here: each deployment gets the parts that its form has."""
    pools: PoolSettings = PoolSettings()
    alerts: AlertSettings = AlertSettings()

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, timezone: str | None) -> str | None:
        if timezone is not None:
            try:
                ZoneInfo(timezone)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(f"{timezone} is no time zone; write one like Europe/Berlin or Etc/UTC") from error
        return timezone

    @field_validator("crons")
    @classmethod
    def _can_fire(cls, crons: dict[str, str]) -> dict[str, str]:
        from prefect.client.schemas.schedules import CronSchedule

        for name, cron in crons.items():
            try:
                CronSchedule(cron=cron)
            except ValueError as error:
                raise ValueError(
                    f"{name}: {cron!r} is no cron of five fields (minute, hour, day, month, weekday), such as '0 4 * * 1'"
                ) from error
        return crons

    @model_validator(mode="after")
    def _keeps_no_credentials(self) -> EnvironmentSettings:
        if self.retraining.store.secret_access_key is not None or self.retraining.store.access_key_id is not None:
            raise ValueError(
                "retraining.store holds credentials, and the parameters of deployments are readable by everyone who can see the Prefect "
                "server. Leave them out, and give the workers AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
            )
        if shown_address(self.retraining.data.mirror_url) != self.retraining.data.mirror_url:
            raise ValueError(
                "retraining.data.mirror_url holds a user, password or query, and parameters of deployments are readable by all"
            )
        return self

    @property
    def departures(self) -> dict[str, Any]:
        """What of `retraining` was set, JSON-able."""
        return self.retraining.model_dump(mode="json", exclude_unset=True)
