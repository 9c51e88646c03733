"""Leases: what a run under way uses is named in the store until a time, so that nothing prunes it.

A lease is a small object, created once. Its run renews it by another one, and deletes it at its end. The lease of a run that was
killed expires. A run and a pruning never miss each other: the run writes its lease before it looks for a mark of deletion, and
the pruning writes its marks before it looks for leases.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from configs.errors import NotFoundError, StoreDeniedError, StoreError
from infra.storage import Store

__all__ = ["FOLDER", "TOMBSTONE", "Lease", "expired_leases", "leased", "leases"]

FOLDER = "leases/"
TOMBSTONE = "pruned.json"
"""Name of the mark in a version that is being deleted."""
VALID = timedelta(hours=6)
RENEW_S = 3600.0
TIME = "%Y%m%dT%H%M%SZ"
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """What one run uses."""

    uses: tuple[str, ...]  # key prefixes of versions: datasets/<name>/<version> or models/<name>/<version>
    what: str  # the run, for people
    who: str  # its process and machine
    until: str  # UTC, ISO 8601

    @property
    def said(self) -> str:
        """Who uses something, as a phrase."""
        return f"used by {self.what} ({self.who}) until {self.until} at least"


@contextmanager
def leased(store: Store, what: str, uses: Iterable[str]) -> Iterator[None]:
    """Keep versions from being pruned for the duration of the block.

    A role that may not write leases goes on without one, and a warning is logged.

    Args:
        store: Store of the versions.
        what: The run, for people who prune: `retrain of movie-ranker`.
        uses: Key prefixes of the versions, such as `datasets/ml-100k/<version>`.

    Raises:
        NotFoundError: One of the versions is being deleted.
    """
    used, over = tuple(dict.fromkeys(uses)), threading.Event()
    try:
        key = _write(store, what, used)
    except StoreDeniedError as error:
        LOG.warning("What %s uses is not kept from being pruned: %s", what, error)
        yield
        return
    keys = [key]
    renewing = threading.Thread(target=_renew, args=(store, what, used, keys, over), name="renew-lease", daemon=True)
    try:
        for prefix in used:
            if store.exists(f"{prefix}/{TOMBSTONE}"):
                raise NotFoundError(
                    f"{store.uri(prefix)} is being deleted. Name another version. If no `recsys data prune --yes` or `recsys model prune "
                    "--yes` is under way, one was killed: run it again, which completes or undoes the deletion."
                )
        renewing.start()
        yield
    finally:
        over.set()
        if renewing.ident is not None:
            renewing.join()
        for key in keys:
            with suppress(StoreError):  # a lease that stays expires
                store.delete(key)


def leases(store: Store) -> dict[str, Lease]:
    """Return the leases that have not expired, by the key prefix of each version that they keep."""
    now = datetime.now(UTC)
    found: dict[str, Lease] = {}
    for key in store.list(FOLDER):
        if not _expired(key, now):
            with suppress(NotFoundError, ValueError, KeyError, TypeError):  # deleted meanwhile, or not a lease
                lease = Lease(**json.loads(store.get(key)))
                found |= dict.fromkeys(lease.uses, lease)
    return found


def expired_leases(store: Store) -> list[str]:
    """Return the keys of the leases that have expired."""
    now = datetime.now(UTC)
    return [key for key in store.list(FOLDER) if _expired(key, now)]


def _write(store: Store, what: str, uses: tuple[str, ...]) -> str:
    until = datetime.now(UTC) + VALID
    lease = Lease(uses, what, f"process {os.getpid()} on {socket.gethostname()}", until.isoformat(timespec="seconds"))
    key = f"{FOLDER}{until:{TIME}}-{secrets.token_hex(8)}.json"
    store.put_new(key, json.dumps(asdict(lease), indent=2).encode())
    return key


def _renew(store: Store, what: str, uses: tuple[str, ...], keys: list[str], over: threading.Event) -> None:
    """Write a later lease every hour. A store that does not answer is asked again an hour later."""
    while not over.wait(RENEW_S):
        try:
            keys.append(_write(store, what, uses))
            store.delete(keys[0])
            del keys[0]
        except StoreError as error:
            LOG.warning("The lease of %s could not be renewed: %s", what, error)


def _expired(key: str, now: datetime) -> bool:
    try:
        return datetime.strptime(key.removeprefix(FOLDER)[:16], TIME).replace(tzinfo=UTC) < now
    except ValueError:
        return False
