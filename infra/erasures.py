"""Erased users: one object for each in the store, `erasures/<number>.json`, which wins over every copy of the user's data.

The number is the one that datasets and servers know the user by: the id itself if ids are whole numbers, or else a hash of the text. So the
record of an erasure does not hold the text of an id. It is never removed: without it, a backup or a late delivery would bring the user back.

`erasures/done/<number>/` has what was done about the copies, and when.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from configs.errors import AlreadyExistsError
from infra.storage import Store

__all__ = ["Erasure", "erase_user", "erased_users", "finished_users", "read_erasure", "record_finished"]

AREA = "erasures/"
DONE = f"{AREA}done/"


@dataclass(frozen=True)
class Erasure:
    """The request to erase a user."""

    user: int  # number
    time: str  # UTC, ISO 8601
    reason: str
    by: str  # person, or name of the API key


def erase_user(store: Store, user: int, *, reason: str, by: str, now: datetime) -> Erasure:
    """Record that a user is erased from now on. If the user was erased before, return the former record.

    Args:
        store: The store that datasets and servers share.
        user: Number of the user.
        reason: Why.
        by: Who asked for it.
        now: UTC time.
    """
    erasure = Erasure(user, now.isoformat(timespec="seconds"), reason, by)
    with suppress(AlreadyExistsError):
        store.put_new(f"{AREA}{user}.json", json.dumps(asdict(erasure)).encode())
        return erasure
    return read_erasure(store, user)


def read_erasure(store: Store, user: int) -> Erasure:
    """Return the record of a user's erasure. Raises NotFoundError if the user was not erased."""
    return Erasure(**json.loads(store.get(f"{AREA}{user}.json")))


def erased_users(store: Store) -> frozenset[int]:
    """Return the numbers of all erased users."""
    names = (key.removeprefix(AREA).removesuffix(".json") for key in store.list(AREA))
    return frozenset(int(name) for name in names if name.isdigit())


def finished_users(store: Store) -> frozenset[int]:
    """Return the numbers of the users whose copies were dealt with at least once."""
    return frozenset(int(key.removeprefix(DONE).partition("/")[0]) for key in store.list(DONE))


def record_finished(store: Store, user: int, steps: list[dict[str, Any]], now: datetime) -> str:
    """Record what was done about the copies of a user's data, and what remains until when. Return the key of the record."""
    key = f"{DONE}{user}/{now:%Y%m%dT%H%M%S%fZ}.json"
    store.put_new(key, json.dumps({"user": user, "time": now.isoformat(timespec="seconds"), "steps": steps}, indent=1).encode())
    return key
