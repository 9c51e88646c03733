"""A user's latest events as one byte string: the source of truth for every state.

The head is an epoch (8 random bytes, redrawn whenever an event is inserted before another one) and the count of all events ever
accepted. Each event takes 24 bytes: time, item and key. Events are in order of time; events at the same time are in order of
arrival. Of two logs with the same epoch, one continues the other. A state stores its epoch and count, so it can be checked
against the log.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["ENTRY", "HEAD", "Outcome", "OutcomeLabel", "UserLog", "append", "entry", "is_sound", "key_of", "new_epoch"]

HEAD = struct.Struct("<8sq")
ENTRY = struct.Struct("<qq8s")
FIELDS = np.dtype([("time", "<i8"), ("item", "<i8"), ("key", "V8")])
MANY = 8  # events; with more of them, a set of all keys is faster than a search for each
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

    @property
    def guard(self) -> tuple[bytes, int] | None:
        """The epoch and count of the stored log, if this one also has events that are not stored (`merged_log`)."""
        return None


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


def is_sound(content: bytes) -> bool:
    """Return whether the bytes are a log. A log in Redis may have been damaged by others."""
    if not content:
        return True
    size = len(content) - HEAD.size
    return size >= 0 and size % ENTRY.size == 0 and int(HEAD.unpack_from(content)[1]) >= size // ENTRY.size


def append(content: bytes | None, entries: bytes, limit: int, epoch: bytes) -> tuple[bytes, list[Outcome]]:
    """Return the log with the events of `entries` added, and the outcome of each. The log keeps the latest `limit` events.

    The result is that of adding the events one by one, in one pass over the log. `epoch` is used if the log needs a new one. The
    script `redis_scripts.APPEND` does the same, byte for byte.
    """
    own, count, events = (*HEAD.unpack_from(content), content[HEAD.size :]) if content else (epoch, 0, b"")
    log = _Appending(events, limit, many=len(entries) > MANY * ENTRY.size)
    if log.many and log.covers(entries):
        return HEAD.pack(own, count) + events, [Outcome.DUPLICATE] * (len(entries) // ENTRY.size)
    outcomes = [log.add(entries[start : start + ENTRY.size]) for start in range(0, len(entries), ENTRY.size)]
    if Outcome.LATE in outcomes:
        own = epoch
    return HEAD.pack(own, count + len(log.added)) + log.events(), outcomes


class _Appending:
    """A log while events are added to it. The stored events are copied only once, at the end."""

    def __init__(self, stored: bytes, limit: int, *, many: bool) -> None:
        self._stored, self._limit, self.many = stored, limit, many
        self._times = np.frombuffer(stored, FIELDS)["time"]
        self._first = 0  # number of stored events that the limit has pushed out
        self._held = len(self._times)  # events that are in the log now
        self._newest = int(self._times[-1]) if self._held else None
        self._keys = {stored[at : at + 8] for at in range(16, len(stored), ENTRY.size)} if many else set()
        self.added: list[tuple[int, bytes]] = []  # time and entry of the accepted events, in order of arrival
        self._heap: list[tuple[int, int]] = []  # time and number of those that are in the log now

    def covers(self, entries: bytes) -> bool:
        """Return whether all these events are in the log as they are."""
        found = self._stored.find(entries)
        return found >= 0 and found % ENTRY.size == 0

    def add(self, added: bytes) -> Outcome:
        key = added[16:24]
        if key in self._keys or (not self.many and self._is_stored(key)):
            return Outcome.DUPLICATE
        time = int(ENTRY.unpack(added)[0])
        if self._held >= self._limit and time < self._oldest()[0]:
            return Outcome.TOO_OLD
        late = self._newest is not None and time < self._newest
        if not late:
            self._newest = time
        heapq.heappush(self._heap, (time, len(self.added)))
        self.added.append((time, added))
        self._keys.add(key)
        self._held += 1
        while self._held > self._limit:
            self._push_out()
        return Outcome.LATE if late else Outcome.APPLIED

    def events(self) -> bytes:
        """Return the log's events: stored events are before added ones of the same time."""
        order = sorted(self._heap)
        stored = self._times[self._first :]
        places = np.searchsorted(stored, np.array([time for time, _ in order], np.int64), side="right") + self._first
        pieces, at = [], self._first * ENTRY.size
        for (_, number), place in zip(order, places.tolist(), strict=True):
            pieces += [self._stored[at : place * ENTRY.size], self.added[number][1]]
            at = place * ENTRY.size
        return b"".join([*pieces, self._stored[at:]])

    def _is_stored(self, key: bytes) -> bool:
        found = self._stored.find(key, self._first * ENTRY.size)
        while found >= 0 and found % ENTRY.size != 16:
            found = self._stored.find(key, found + 1)
        return found >= 0

    def _oldest(self) -> tuple[int, bool]:
        """Return the time of the oldest event, and whether it was stored before."""
        stored = int(self._times[self._first]) if self._first < len(self._times) else None
        if stored is not None and not (self._heap and self._heap[0][0] < stored):
            return stored, True
        return self._heap[0][0], False

    def _push_out(self) -> None:
        if self._oldest()[1]:
            at = self._first * ENTRY.size
            self._keys.discard(self._stored[at + 16 : at + 24])
            self._first += 1
        else:
            _, number = heapq.heappop(self._heap)
            self._keys.discard(self.added[number][1][16:24])
        self._held -= 1
