"""A user's latest events as one byte string: the source of truth for every state.

The head is an epoch (8 random bytes, redrawn whenever an event is inserted before another one) and the count of all events ever
accepted. Each event takes 24 bytes: time, item and key. Events are in order of time; events at the same time are in order of
arrival. Of two logs with the same epoch, one continues the other. A state stores its epoch and count, so it can be checked
against the log.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["ENTRY", "HEAD", "Outcome", "OutcomeLabel", "UserLog", "append", "entry", "key_of", "new_epoch"]

HEAD = struct.Struct("<8sq")
ENTRY = struct.Struct("<qq8s")
FIELDS = np.dtype([("time", "<i8"), ("item", "<i8"), ("key", "V8")])
OutcomeLabel = Literal["applied", "late", "duplicate", "too_old"]


class Outcome(IntEnum):
    """The outcome of an event."""

    APPLIED = 0  # it is the user's latest event
    LATE = 1  # inserted before later events; states are rebuilt
    DUPLICATE = 2  # an event with this key is already stored
    TOO_OLD = 3  # older than all stored events

    @property
    def label(self) -> OutcomeLabel:
        """The name in responses and metrics."""
        return LABELS[self]


LABELS: dict[Outcome, OutcomeLabel] = {
    Outcome.APPLIED: "applied",
    Outcome.LATE: "late",
    Outcome.DUPLICATE: "duplicate",
    Outcome.TOO_OLD: "too_old",
}


@dataclass(frozen=True, eq=False)
class UserLog:
    """A parsed log."""

    epoch: bytes  # 8
    count: int  # events ever accepted
    times: npt.NDArray[np.int64]  # (E,) UTC seconds of the latest E events, ascending
    items: npt.NDArray[np.int64]  # (E,) raw ids

    @classmethod
    def read(cls, content: bytes | None) -> UserLog:
        """Parse a log. None means a user without events."""
        if not content:
            nothing = np.empty(0, dtype=np.int64)
            return cls(b"\0" * 8, 0, nothing, nothing)
        epoch, count = HEAD.unpack_from(content)
        events = np.frombuffer(content, FIELDS, offset=HEAD.size)
        return cls(epoch, count, events["time"], events["item"])

    def __len__(self) -> int:
        return len(self.times)


def key_of(event_id: str | None, item: int, time: int | None) -> bytes:
    """Return 8 bytes that identify an event of a user: a hash of its id, else of its item and time, else random bytes."""
    if event_id is None and time is None:
        return secrets.token_bytes(8)
    text = f"{item} {time}" if event_id is None else f"id {event_id}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def entry(item: int, time: int, key: bytes) -> bytes:
    return ENTRY.pack(time, item, key)


def new_epoch() -> bytes:
    return secrets.token_bytes(8)


def append(content: bytes | None, entries: bytes, limit: int, epoch: bytes) -> tuple[bytes, list[Outcome]]:
    """Return the log with the events of `entries` added, and the outcome of each. The log keeps the latest `limit` events.

    `epoch` is used if the log needs a new one. The script in `redis_state` does the same, byte for byte.
    """
    if content:
        own, count = HEAD.unpack_from(content)
        events = content[HEAD.size :]
    else:
        own, count, events = epoch, 0, b""
    outcomes = []
    for start in range(0, len(entries), ENTRY.size):
        added = entries[start : start + ENTRY.size]
        if _holds(events, added[16:24]):
            outcomes.append(Outcome.DUPLICATE)
            continue
        time = ENTRY.unpack(added)[0]
        place = len(events)
        while place > 0 and ENTRY.unpack_from(events, place - ENTRY.size)[0] > time:
            place -= ENTRY.size
        if place == 0 and len(events) >= limit * ENTRY.size:
            outcomes.append(Outcome.TOO_OLD)
            continue
        if place < len(events):
            own = epoch
        outcomes.append(Outcome.LATE if place < len(events) else Outcome.APPLIED)
        count += 1
        events = (events[:place] + added + events[place:])[-limit * ENTRY.size :]
    return HEAD.pack(own, count) + events, outcomes


def _holds(events: bytes, key: bytes) -> bool:
    found = events.find(key)
    while found >= 0:
        if found % ENTRY.size == 16:
            return True
        found = events.find(key, found + 1)
    return False
