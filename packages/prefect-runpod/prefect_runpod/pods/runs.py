"""The flow runs behind the pods, as the reconciler needs them: a port, and the view of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from prefect_runpod.pods.cost import PodCost

__all__ = ["FINAL", "RunView", "Runs", "RunsUnavailableError"]

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


class RunsUnavailableError(Exception):
    """The server of the flow runs does not answer. Nothing may be concluded."""


@dataclass(frozen=True)
class RunView:
    """A flow run, as one check sees it."""

    id: UUID
    name: str
    state: str
    """Type of its state: SCHEDULED, PENDING, RUNNING, CANCELLING, PAUSED, or one of FINAL."""
    since: datetime
    """When the run entered that state, by the server's clock."""
    begun: bool
    """Whether the run has ever started."""
    attempt: int
    """Number of times that the run has started."""
    pod: str | None
    """The pod that the run belongs to. Only that pod may execute it."""
    worker: str | None
    """Name of the worker that took the run."""
    released: bool = False
    """Whether the run was suspended or rescheduled. Its process has ended, and the run will continue in another pod."""
    age_s: float = 0.0
    """Seconds for which the run has been in that state. Both times are from the server's clock."""

    @property
    def final(self) -> bool:
        return self.state in FINAL


class Runs(Protocol):
    """The port to the flow runs. Every method raises RunsUnavailableError if the server does not answer."""

    async def look(self, ids: set[UUID]) -> dict[UUID, RunView]:
        """Return the unfinished runs of the work pool that a worker has taken, and those of `ids` that exist."""

    async def crash(self, run: RunView, message: str) -> None:
        """Mark the run crashed, unless it has ended."""

    async def cancel(self, run: RunView, message: str) -> None:
        """Mark the run cancelled, unless it has ended."""

    async def resubmit(self, run: RunView, message: str) -> None:
        """Let a worker take the run again, unless the run has changed since `run` was seen."""

    async def assign(self, run: RunView, pod: str) -> None:
        """Name the pod that may execute the run, unless the run already names one."""

    async def tell(self, run: UUID, name: str, message: str) -> None:
        """Show the progress of a pending run."""

    async def log(self, run: UUID, lines: list[str]) -> None:
        """Add lines to the run's log."""

    async def account(self, run: UUID, cost: PodCost) -> None:
        """Store the cost record of one of the run's pods. It replaces an earlier record of that pod."""

    async def accounts(self, run: UUID) -> list[PodCost]:
        """Return the cost records of the run's pods."""

    async def open_accounts(self) -> list[tuple[RunView, PodCost]]:
        """Return the cost records that are still open although their run, a run of the pool, has ended."""

    async def at_work(self, worker: str) -> bool:
        """Return whether a worker of that name is online."""
