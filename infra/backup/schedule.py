"""Makes each kind of backup again when the last one is old enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from configs.errors import RecsysError
from infra.backup.kinds import STAMP, Backup

__all__ = ["RETRY", "Schedule"]

RETRY = timedelta(minutes=15)  # after a backup that failed


@dataclass(frozen=True)
class Schedule:
    """Backups that are made again and again.

    The records of the backups say when each was made, so a restart makes none too early and none too late.

    Attributes:
        backup: Where the backups are kept.
        kinds: What makes the backup of each kind, such as `store`. It returns what it copied, in words.
        every: Time between two backups of a kind.
        tell: Receives one line for each backup that was made or failed.
    """

    backup: Backup
    kinds: Mapping[str, Callable[[Backup], str]]
    every: timedelta
    tell: Callable[[str], None] = print

    def run(self) -> None:
        """Make backups until the process is stopped."""
        while True:
            wait = self.make_due(datetime.now(UTC))
            time.sleep(wait.total_seconds())

    def make_due(self, now: datetime) -> timedelta:
        """Make the backups that are due at `now`, and return the time until the next one. One that fails does not keep the others."""
        waits = []
        for kind, make in self.kinds.items():
            try:
                due = self._due(kind)
                if due <= now:
                    self.tell(f"{kind}: {make(self.backup)}")
                    due = now + self.every
                waits.append(due - now)
            except (RecsysError, OSError) as error:
                self.tell(f"{kind}: no backup was made, and the next try is in {RETRY.seconds // 60} minutes: {error}")
                waits.append(RETRY)
        return min(waits)

    def _due(self, kind: str) -> datetime:
        names = [key.rpartition("/")[2] for key in self.backup.place.list(f"{kind}/done/")]
        if not names:
            return datetime.min.replace(tzinfo=UTC)
        return datetime.strptime(max(names), f"{STAMP}.json").replace(tzinfo=UTC) + self.every
