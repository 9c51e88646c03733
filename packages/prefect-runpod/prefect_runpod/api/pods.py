"""Pods and GPU types as RunPod describes them. Parsing is lenient: optional fields may be absent, and new ones are ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import AliasPath, BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["ENDED", "GpuType", "Pod"]

ENDED = frozenset({"EXITED", "ERROR", "TERMINATED"})


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, content: Any) -> Any:
        """Treat null as absent.

        An account may hold pods of every kind. A pod without a GPU, price or name must not make the complete list unreadable.
        """
        return _without_nulls(content) if isinstance(content, dict) else content


class Pod(_Answer):
    """A pod. Its environment carries secrets, so it is left out of the pod's `repr`."""

    id: str = Field(min_length=1)
    name: str = ""
    status: str
    """PROVISIONING, STARTING, RUNNING, EXITED, ERROR, TERMINATED, or a status that we do not know yet."""
    gpu: str = Field(default="", validation_alias=AliasPath("gpu", "id"))
    gpu_count: int = Field(default=1, validation_alias=AliasPath("gpu", "count"))
    cost: float = Field(default=0.0, allow_inf_nan=False)
    """Current price in USD per hour; 0 once the pod has ended."""
    data_center: str | None = Field(default=None, validation_alias="dataCenterId")
    uptime_s: float | None = Field(default=None, validation_alias=AliasPath("runtime", "uptime"), allow_inf_nan=False)
    """Seconds since the container started, not since the pod started. None if no container is running."""
    created_at: datetime | None = Field(default=None, validation_alias="createdAt")
    env: dict[str, str] = Field(default_factory=dict, repr=False)

    @field_validator("created_at")
    @classmethod
    def _has_a_zone(cls, moment: datetime | None) -> datetime | None:
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


class GpuType(_Answer):
    """A GPU type of the catalogue. Prices are in USD per hour for one GPU."""

    id: str
    memory_gb: int = Field(default=0, validation_alias="memory")
    secure_price: float | None = Field(default=None, validation_alias=AliasPath("price", "secure"), allow_inf_nan=False)
    community_price: float | None = Field(default=None, validation_alias=AliasPath("price", "community"), allow_inf_nan=False)
    availability: str = "NONE"
    """NONE, LOW, MEDIUM or HIGH, for the requested cloud and count."""

    def price(self, cloud: str) -> float | None:
        """Return the price of one GPU in USD per hour, or None if it is not offered in that cloud."""
        found = self.secure_price if cloud == "SECURE" else self.community_price
        return found or None


def _without_nulls(content: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in content.items() if value is not None}
    return {name: _without_nulls(value) if isinstance(value, dict) else value for name, value in given.items()}
