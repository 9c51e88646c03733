"""Settings of who may ask: the file of API keys, which serving reloads when it changes, and when a server may do without keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from configs.base import Settings

__all__ = ["AccessSettings", "ApiKey", "KeyFile", "Scope"]

Scope = Literal["read", "events", "admin"]
Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]{1,260}$")]


class ApiKey(Settings):
    """One API key. Two keys may have one name: clients change from one to the other while both are valid."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name of the client. It is written to the log, and the keys of one name share its limit."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the key, 64 hex digits. The key itself is kept nowhere. `recsys key add NAME --keys FILE` makes both."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    """What the client may do. `read`: ask for recommendations, items, users and versions. `events`: report events and outcomes.
    `admin`: everything, also erase users and open /metrics, /docs and the pages."""
    rate_per_s: float | None = Field(default=None, gt=0)
    """Requests per second of the client in each worker. If empty, `limits.rate_per_s` counts."""
    until: datetime | None = None
    """UTC time at which the key stops to work. If empty, it works until it is removed."""

    @field_validator("until")
    @classmethod
    def _is_in_utc(cls, given: datetime | None) -> datetime | None:
        return given.replace(tzinfo=UTC) if given is not None and given.tzinfo is None else given


class KeyFile(Settings):
    """Content of the YAML file of API keys."""

    keys: tuple[ApiKey, ...] = Field(default=(), max_length=10_000)
    """API keys."""

    @model_validator(mode="after")
    def _are_different(self) -> KeyFile:
        if len({key.sha256 for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have the same sha256: each key must be different")
        return self


class AccessSettings(Settings):
    """Who may ask."""

    keys: Path | None = None
    """YAML file of API keys. It is reloaded when it changes. If it is empty or has no keys, a request needs no key, and the server
    starts only where nobody else can reach it."""
    published_at: str | None = None
    """Address at which a proxy publishes the server, if only the proxy can reach `host`. Without keys, the server starts only if this
    address, or else `host`, is a loopback address."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins, such as https://shop.example.org, whose pages may ask from a browser. If empty, no page of another origin may."""
