"""What was delivered for a dataset version: the incoming and the quarantined rows, from the accounts of its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.storage import Store
from tasks.datasets.commit_log import LandingLog
from tasks.datasets.references import DatasetRef, read_manifest

__all__ = ["DELIVERIES", "REFUSED", "Delivery", "Quarantine", "last_delivery", "quarantined", "release_deliveries"]

DELIVERIES = "deliveries/"  # of a release: later deliveries that gave the same content

REFUSED = "refused"
"""Field of the record of a delivery that was refused as a whole: why."""
REPEATS = "repeats a user and movie of a later event"  # earlier versions of the product counted these duplicates as quarantined


@dataclass(frozen=True)
class Quarantine:
    """The number of incoming rows, and how many of them validation quarantined."""

    rows: int
    quarantined: int


@dataclass(frozen=True)
class Delivery:
    """The last delivery for a dataset version. It may have added nothing.

    Attributes:
        when: UTC seconds; 0 if unknown.
        rows: Rows of events and descriptions.
        added: Rows that the version has from it.
        quarantined: Bad rows.
    """

    when: float
    rows: int
    added: int
    quarantined: int


def last_delivery(store: Store, dataset: DatasetRef) -> Delivery | None:
    """Return the last delivery that ended with this version, or None if later ones changed the dataset or nothing records it."""
    if dataset.number:
        head = LandingLog(store, dataset.name).entries(after=dataset.number - 1)[-1]
        if head.version != dataset.version:
            return None
        return Delivery(
            when=datetime.fromisoformat(head.when).timestamp(),
            rows=sum(account.rows for account in head.accounts),
            added=sum(account.accepted for account in head.accounts),
            quarantined=sum(account.quarantined for account in head.accounts),
        )
    *earlier, last = release_deliveries(store, dataset)
    found = last.get("validation", {}).get("tables", {}).get("interactions")
    if found is None:
        return None
    return Delivery(
        last.get("created", 0.0), int(found["rows"]), 0 if earlier else int(found["accepted"]), int(found["quarantined"])
    )


def release_deliveries(store: Store, dataset: DatasetRef) -> list[dict[str, Any]]:
    """Return the manifest of a release, and the records of later deliveries: the same content, or refused as a whole."""
    keys = [key for key in store.list(f"{dataset.prefix}/{DELIVERIES}") if key.endswith(".json")]
    return [read_manifest(store, dataset.name, dataset.version), *(json.loads(store.get(key)) for key in keys)]


def quarantined(
    store: Store, dataset: DatasetRef, *, after: int = 0, since: int | None = None, refused: bool = True
) -> Quarantine | None:
    """Return the numbers of incoming and of quarantined event rows, or None if nothing records them.

    For a release, the last delivery counts, even if it gave a version that was stored before, or was refused as a whole.
    For a version that a landing zone made, this counts the files of all log entries up to the last one that ended with this
    version. That can be a later entry than the one that made the version, because a file that is quarantined as a whole does not
    make a new version. If a file was read several times, its last account counts.

    Args:
        after: Count only log entries with a number above this.
        since: Count only files that were read after this time, in UTC seconds.
        refused: Whether a delivery counts that was refused as a whole, for a release.
    """
    if not dataset.number:
        deliveries = release_deliveries(store, dataset)
        return _of_release([each for each in deliveries if refused or REFUSED not in each][-1])
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


def _of_release(delivery: dict[str, Any]) -> Quarantine | None:
    """Return the numbers of incoming and of quarantined event rows, or None if the delivery does not record them."""
    found = delivery.get("validation", {}).get("tables", {}).get("interactions")
    if not found:
        return None
    repeats = found["reasons"].get(REPEATS, 0) if "duplicates" not in found else 0
    return Quarantine(int(found["rows"]), int(found["quarantined"]) - int(repeats))
