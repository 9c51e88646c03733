"""What a pod cost: its price by the hour for the time that it lived. RunPod bills by the second."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from infra.runpod.pods import Pod

__all__ = ["PodCost"]


@dataclass(frozen=True)
class PodCost:
    """A pod's account. While it is open, `seconds` and `usd` are those of the last look."""

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
        """The account of a pod that lives at `now`."""
        created = pod.created_at or now
        gpu = f"{pod.gpu_count} x {pod.gpu}" if pod.gpu else "unknown"
        return cls(pod.id, gpu, pod.cost, created.isoformat(timespec="milliseconds"), 0.0, 0.0, False).until(now)

    @classmethod
    def read(cls, row: Any) -> PodCost | None:
        """The account that `to_dict` gave; None where it is none."""
        try:
            return _ACCOUNT.validate_python(row)
        except ValidationError:
            return None

    def until(self, now: datetime, *, closed: bool = False, note: str = "") -> PodCost:
        """The account as of `now`, which may be its end."""
        seconds = max(0.0, (now - datetime.fromisoformat(self.created)).total_seconds())
        usd = round(self.usd_per_hour * seconds / 3600, 6)
        return replace(self, seconds=round(seconds, 3), usd=usd, closed=closed, note=note or self.note)

    @property
    def ended(self) -> datetime:
        """When it was last counted."""
        return datetime.fromisoformat(self.created) + timedelta(seconds=self.seconds)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_ACCOUNT = TypeAdapter(PodCost)
