"""What servers measure during a rollout, as small files of the store that are created once and then read by whoever watches it.

The store is what all servers share. So nothing is lost with Redis, and no server has to be asked. Users appear as numbers that
`user_number` draws from their ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from configs.errors import NotFoundError, StoreError
from infra.registry import read_json
from infra.storage import Store

__all__ = [
    "KINDS",
    "Event",
    "FirstAnswer",
    "Measured",
    "forget_measured",
    "measured_keys",
    "read_measured",
    "user_number",
    "write_measured",
]

KINDS = ("errors", "empty", "repeated")
"""What can happen to a user: a request failed, a list was empty, or a list came again after new events or named an item twice."""
MOST_BYTES = 4 << 20  # of one file


class Event(NamedTuple):
    """The first time that something happened to a user in a stage."""

    user: int
    time: int  # UTC seconds
    new: bool  # the user is assigned to the new version


class FirstAnswer(NamedTuple):
    """The first answer that a user got in a stage."""

    user: int
    time: int  # UTC seconds
    new: bool
    cpu_s: float | None  # None if it came from the cache
    alike: float | None  # share of the list that the user before, with the same version, was shown too


class Agreement(NamedTuple):
    """How much of a user's list from the new version the old version would have shown."""

    user: int
    time: int
    share: float


@dataclass
class Measured:
    """What one worker measured since its last file. All times are of the stage that the folder names."""

    worker: str
    requests: list[int] = field(default_factory=lambda: [0, 0])  # of users of the old version, and of the new one
    events: dict[str, list[Event]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    answers: list[FirstAnswer] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    refused: str = ""  # why this worker does not serve the new version


_MEASURED = TypeAdapter(Measured)


def user_number(user: int | str) -> int:
    """Return the number, below 2^53, that stands for a user in what is measured. It is independent of the user's version."""
    return int.from_bytes(hashlib.blake2b(f"measured\x00{user}".encode(), digest_size=8).digest(), "big") >> 11


def write_measured(store: Store, name: str, entry: int, measured: Measured, number: int) -> None:
    """Store what a worker measured in the stage that began with the log's entry `entry`, as the worker's file `number`."""
    store.put_new(f"{_folder(name, entry)}{measured.worker}-{number:06d}.json", json.dumps(asdict(measured)).encode())


def measured_keys(store: Store, name: str, entry: int) -> list[str]:
    """Return the keys of all files of a stage."""
    return [key for key in store.list(_folder(name, entry)) if key.endswith(".json")]


def read_measured(store: Store, keys: list[str]) -> Iterator[Measured]:
    """Yield what files say.

    Raises:
        StoreError: A file is damaged.
    """
    for key in keys:
        try:
            yield _MEASURED.validate_python(read_json(store.get(key, MOST_BYTES), store.uri(key)))
        except ValidationError as error:
            raise StoreError(f"{store.uri(key)} is damaged: {error.errors()[0]['msg']}. Delete it.") from error


def forget_measured(store: Store, name: str, entry: int) -> None:
    """Delete the files of a stage that has been decided, and those that earlier ones left behind."""
    for key in store.list(f"rollouts/{name}/"):
        if "/measured/" in key and key < f"{_folder(name, entry + 1)}":
            with suppress(NotFoundError):
                store.delete(key)


def _folder(name: str, entry: int) -> str:
    return f"rollouts/{name}/{entry:08d}/measured/"
