"""The cost of a pod: its price per hour times its lifetime. RunPod bills by the second."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from prefect_runpod.api import Pod

__all__ = ["PodCost"]


@dataclass(frozen=True)
class PodCost:
    """The cost record of a pod. While it is open, `seconds` and `usd` are as of the last check."""

    pod: str
    gpu: str
    usd_per_hour: float
    created: str
    """UTC, ISO 8601."""
    seconds: float
    usd: float
    closed: bool
    note: str = ""

    @classmethod
    def of(cls, pod: Pod, now: datetime) -> PodCost:
        """Open the cost record of a pod that is alive at `now`."""
        created = pod.created_at or now
        gpu = f"{pod.gpu_count} x {pod.gpu}" if pod.gpu else "unknown"
        return cls(pod.id, gpu, pod.cost, created.isoformat(timespec="milliseconds"), 0.0, 0.0, False).until(now)

    @classmethod
    def read(cls, row: Any) -> PodCost | None:
        """Return the cost record that `to_dict` wrote, or None if `row` is something else."""
        try:
            return _ACCOUNT.validate_python(row)
        except ValidationError:
            return None

    def until(self, now: datetime, *, closed: bool = False, note: str = "") -> PodCost:
        """Return the cost record as of `now`. If `closed`, it is the final one."""
        seconds = max(0.0, (now - datetime.fromisoformat(self.created)).total_seconds())
        usd = round(self.usd_per_hour * seconds / 3600, 6)
        return replace(self, seconds=round(seconds, 3), usd=usd, closed=closed, note=note or self.note)

    @property
    def ended(self) -> datetime:
        """The time up to which the cost is counted."""
        return datetime.fromisoformat(self.created) + timedelta(seconds=self.seconds)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_ACCOUNT = TypeAdapter(PodCost)
