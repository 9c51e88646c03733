"""The flow runs behind the pods, as the reconciler needs them: a port, and what is known of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from infra.runpod.cost import PodCost

__all__ = ["FINAL", "RunView", "Runs", "RunsUnavailableError"]

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


class RunsUnavailableError(Exception):
    """The server of the flow runs does not answer; nothing may be concluded."""


@dataclass(frozen=True)
class RunView:
    """A flow run at one look."""

    id: UUID
    name: str
    state: str
    """Type of its state: SCHEDULED, PENDING, RUNNING, CANCELLING, PAUSED, or one of FINAL."""
    since: datetime
    """When that state began, by the server's clock."""
    begun: bool
    """Whether it was ever running."""
    attempt: int
    """Times that it has begun."""
    pod: str | None
    """Pod that the run belongs to: only that one may execute it."""
    worker: str | None
    """Name of the worker that took it."""
    released: bool = False
    """Suspended or rescheduled: its process has ended, and another pod will go on."""
    age_s: float = 0.0
    """Seconds for which it has been in that state, all by the server's clock."""

    @property
    def final(self) -> bool:
        return self.state in FINAL


class Runs(Protocol):
    """Every method raises RunsUnavailableError where the server does not answer."""

    async def look(self, ids: set[UUID]) -> dict[UUID, RunView]:
        """All runs of the work pool that a worker has taken and that have not ended, and those of `ids` that exist."""

    async def crash(self, run: RunView, message: str) -> None:
        """Mark it crashed, unless it has ended."""

    async def cancel(self, run: RunView, message: str) -> None:
        """Mark it cancelled, unless it has ended."""

    async def resubmit(self, run: RunView, message: str) -> None:
        """Have it taken by a worker again, unless it has gone on since `run` was seen."""

    async def assign(self, run: RunView, pod: str) -> None:
        """Name the pod that may execute it, unless it names one."""

    async def tell(self, run: UUID, name: str, message: str) -> None:
        """Show how far a pending run is."""

    async def log(self, run: UUID, lines: list[str]) -> None:
        """Add lines to the run's log."""

    async def account(self, run: UUID, cost: PodCost) -> None:
        """Keep the account of one of the run's pods, in place of an earlier one of that pod."""

    async def accounts(self, run: UUID) -> list[PodCost]:
        """The accounts of the run's pods."""

    async def open_accounts(self) -> list[tuple[RunView, PodCost]]:
        """Accounts that nobody has closed, of runs of the pool that have ended."""

    async def at_work(self, worker: str) -> bool:
        """Whether a worker of that name answers."""
