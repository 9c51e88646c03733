"""Which rows of a dataset version came in, and which of them were set aside, from the accounts of its files."""

from __future__ import annotations

from datetime import datetime

from infra.stores import Store
from tasks.datasets import DatasetRef, quarantine_of, read_manifest
from tasks.drift_reference import Quarantine
from tasks.landing_log import LandingLog

__all__ = ["quarantined"]


def quarantined(store: Store, dataset: DatasetRef, *, after: int = 0, since: int | None = None) -> Quarantine | None:
    """Rows of events that came in for the version, and how many were set aside; None where nothing tells.

    Of a version that a landing zone made, the files of the log's entries later than number `after`, and read after `since` (UTC
    seconds), up to the last entry that ended with this version: a file that was quarantined as a whole makes no new one. Of a file
    that was read again the last account counts.
    """
    if not dataset.number:
        return quarantine_of(read_manifest(store, dataset.name, dataset.version))
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
