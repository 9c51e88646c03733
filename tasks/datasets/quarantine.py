"""Count the incoming and the quarantined rows of a dataset version from the accounts of its files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.storage import Store
from tasks.datasets.commit_log import LandingLog
from tasks.datasets.references import DatasetRef, read_manifest

__all__ = ["Quarantine", "quarantined"]

REPEATS = "repeats a user and movie of a later event"  # earlier versions of the product counted these duplicates as quarantined


@dataclass(frozen=True)
class Quarantine:
    """The number of incoming rows, and how many of them validation quarantined."""

    rows: int
    quarantined: int


def quarantined(store: Store, dataset: DatasetRef, *, after: int = 0, since: int | None = None) -> Quarantine | None:
    """Return the numbers of incoming and of quarantined event rows, or None if nothing records them.

    For a version that a landing zone made, this counts the files of all log entries up to the last one that ended with this
    version. That can be a later entry than the one that made the version, because a file that is quarantined as a whole does not
    make a new version. If a file was read several times, its last account counts.

    Args:
        after: Count only log entries with a number above this.
        since: Count only files that were read after this time, in UTC seconds.
    """
    if not dataset.number:
        return _of_release(read_manifest(store, dataset.name, dataset.version))
    entries = LandingLog(store, dataset.name).entries()
    last = max((entry.number for entry in entries if entry.version == dataset.version), default=0)
    latest = {
        account.id: account
        for entry in entries
        if after < entry.number <= last and (since is None or datetime.fromisoformat(entry.when).timestamp() > since)
        for account in entry.accounts
    }
    accounts = [account for account in latest.values() if account.kind == "events"]
    rows = sum(account.rows for account in accounts)
    return Quarantine(rows, sum(account.quarantined for account in accounts)) if rows else None


def _of_release(manifest: dict[str, Any]) -> Quarantine | None:
    """Return the numbers of incoming and of quarantined event rows, or None if the manifest does not record them."""
    found = manifest.get("validation", {}).get("tables", {}).get("interactions")
    if not found:
        return None
    repeats = found["reasons"].get(REPEATS, 0) if "duplicates" not in found else 0
    return Quarantine(int(found["rows"]), int(found["quarantined"]) - int(repeats))
