"""Storage of users' events and states: the interface, and an implementation in this process's memory.

The bytes of a state are: its epoch and count (`user_log.HEAD`, copied from the log when the state was computed), the last known
event, which it has not read yet (index, or -1 if there is none, and time), and the model's float32 numbers. The state of a merged log
has the stored log's epoch and count before its own.
"""

from __future__ import annotations

import struct
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from configs.serving import StateSettings
from serving.state.user_log import ENTRY, HEAD, Outcome, append, new_epoch

__all__ = ["Appended", "LocalStates", "StateStore", "Stored", "UserState", "with_state"]

STATE_HEAD = struct.Struct("<8sqqq")
USER_BYTES = 200  # of a user in memory, besides the log and the states


@dataclass(frozen=True, eq=False)
class UserState:
    """A model's state of a user after `count` events."""

    epoch: bytes
    count: int
    last_item: int  # index of the last event that the model knows, or -1; the numbers do not include it yet
    last_time: int
    numbers: npt.NDArray[np.float32]  # (state_size,)
    guard: tuple[bytes, int] | None = None  # epoch and count of the stored log, if the state has read events beside it

    def to_bytes(self) -> bytes:
        own = STATE_HEAD.pack(self.epoch, self.count, self.last_item, self.last_time) + self.numbers.tobytes()
        return own if self.guard is None else HEAD.pack(*self.guard) + own

    @classmethod
    def read(cls, content: bytes | None, size: int) -> UserState | None:
        """Parse a state. Return None if it is missing or has another size; it is then rebuilt."""
        more = len(content or b"") - STATE_HEAD.size - 4 * size
        if not content or more not in (0, HEAD.size):
            return None
        guard = HEAD.unpack_from(content) if more else None
        epoch, count, item, seconds = STATE_HEAD.unpack_from(content, more)
        return cls(epoch, count, item, seconds, np.frombuffer(content, np.float32, offset=more + STATE_HEAD.size), guard)


@dataclass(frozen=True, eq=False)
class Stored:
    """The stored data of a user for one model version."""

    log: bytes | None
    state: bytes | None
    left_s: int | None = None  # seconds that the log will still be kept, if this is known
    failed: bool = False  # the user's data could not be read
    damaged: bool = False  # what was stored is not a log, and was set aside


@dataclass(frozen=True, eq=False)
class Appended:
    """A user's log after events were appended, with the outcome of each event."""

    log: bytes
    state: bytes | None  # as stored before or during the append
    outcomes: list[Outcome]
    left_s: int | None = None
    failed: bool = False  # the events could not be stored
    damaged: bool = False


class StateStore(ABC):
    """Interface of a store of users' events and states. Calls take many users at once and come from one thread."""

    @abstractmethod
    def read(self, users: Sequence[int], version: str) -> list[Stored]: ...

    @abstractmethod
    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        """Append `user_log` entries to users' logs: atomically per user, without duplicates, in order of time."""

    @abstractmethod
    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        """Store states, except where a later one is already stored."""

    @abstractmethod
    def erase(self, users: Sequence[int], versions: Sequence[str]) -> bool:
        """Delete all data of users, with their states of these versions. Return False if some of it could not be deleted now."""

    def close(self) -> None:  # noqa: B027
        """Close connections."""


@dataclass
class _User:
    log: bytes | None
    changed: float  # when the log last changed
    states: dict[str, bytes] = field(default_factory=dict)
    unsent: bool = False  # some of the events are nowhere else

    @property
    def size(self) -> int:
        return self.log_size + sum(map(len, self.states.values())) + 100 * len(self.states)

    @property
    def log_size(self) -> int:
        return USER_BYTES + len(self.log or b"")

    @property
    def rank(self) -> int:
        """0 for users who may be forgotten, 1 for users whose states may be, 2 for those who have nothing to forget."""
        return 0 if not self.unsent else 1 if self.states else 2


class LocalStates(StateStore):
    """The most recently used users of this process, within a memory limit.

    Users with unsent events are never forgotten. Their states are, after all other users, because they can be rebuilt.
    """

    def __init__(self, settings: StateSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock = settings, clock
        self._users: dict[int, _User] = {}
        self._used: tuple[OrderedDict[int, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())  # by rank, latest last
        self._limit = settings.local_mb << 20
        self.bytes = 0
        self._unsent_bytes = 0  # of the logs with unsent events
        self.forgotten = 0  # users evicted because the memory limit was reached

    def __len__(self) -> int:
        return len(self._users)

    def users(self) -> list[int]:
        """Return the users, least recently used first."""
        return [user for users in self._used for user in users]

    def read(self, users: Sequence[int], version: str) -> list[Stored]:
        found = []
        for user in users:
            kept = self._of(user)
            found.append(Stored(kept.log, kept.states.get(version)) if kept else Stored(None, None))
        return found

    def append(self, events: Sequence[tuple[int, bytes]], version: str, *, unsent: bool = False) -> list[Appended]:
        """Append events as `StateStore.append` does. `unsent`: they are nowhere else, so they are not forgotten."""
        result = []
        for user, entries in events:
            kept = self._of(user) or _User(None, 0.0)
            log, outcomes = append(kept.log, entries, self._settings.events, new_epoch())
            kept = _User(log, self._changed(user, log, None), kept.states, kept.unsent or unsent)
            self._put(user, kept)
            result.append(Appended(log, kept.states.get(version), outcomes))
        return result

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        for user, state in states:
            kept = self._of(user)
            if kept is None or kept.log is None:
                continue
            (epoch, count), (own, _) = HEAD.unpack_from(state), HEAD.unpack_from(kept.log)
            before = kept.states.get(version)
            older = before is None or HEAD.unpack_from(before)[0] != own or HEAD.unpack_from(before)[1] < count
            if epoch == own and older:
                self.put(user, kept.log, with_state(kept.states, version, state))

    def put(
        self, user: int, log: bytes | None, states: dict[str, bytes], left_s: int | None = None, *, displace: bool = True
    ) -> None:
        """Store exactly this data of a user. Forget the least recently used users if the memory limit is reached.

        Args:
            user: The user.
            log: The user's events.
            states: The user's states by version.
            left_s: Seconds that the log may still be kept. By default, a changed log is kept for the whole time.
            displace: Whether others may be forgotten for a user who is not stored yet. If not, the user may not be stored.
        """
        before = self._users.get(user)
        if before is not None and before.log == log and before.states == states:
            self._used[before.rank].move_to_end(user)
            return
        kept = _User(log, self._changed(user, log, left_s), states, before is not None and before.unsent)
        if before is not None or displace or self.bytes + kept.size <= self._limit:
            self._put(user, kept)

    def protect(self, user: int, *, unsent: bool) -> None:
        """Note whether some of the user's events are nowhere else. A user who is not stored is ignored."""
        kept = self._users.get(user)
        if kept is not None and kept.unsent != unsent:
            self._drop(user)
            kept.unsent = unsent
            self._keep(user, kept)

    def has_room(self, events: Sequence[tuple[int, bytes]]) -> bool:
        """Return whether these events can be kept without forgetting others that are unsent."""
        most = HEAD.size + self._settings.events * ENTRY.size
        needed = 0
        for user, entries in events:
            kept = self._users.get(user) or _User(None, 0.0)
            after = USER_BYTES + min(most, max(len(kept.log or b""), HEAD.size) + len(entries))
            needed += after - (kept.log_size if kept.unsent else 0)
        return self._unsent_bytes + needed <= self._limit

    def fork(self, user: int) -> None:
        """Give the log a new epoch, because it diverges from the log that it was copied from. Their states no longer match."""
        kept = self._of(user)
        if kept is not None and kept.log is not None:
            epoch = new_epoch()
            kept.log = epoch + kept.log[len(epoch) :]

    def forget(self, user: int) -> None:
        if user in self._users:
            self._drop(user)

    def erase(self, users: Sequence[int], versions: Sequence[str] = ()) -> bool:
        for user in users:
            self.forget(user)
        return True

    def left_s(self, user: int) -> int:
        """Return the whole seconds for which the log may still be kept, at least one."""
        kept = self._users.get(user)
        age = 0.0 if kept is None else self._clock() - kept.changed
        return max(1, self._settings.events_ttl_s - int(age))

    def log_of(self, user: int) -> bytes | None:
        """Return the user's log without marking the user as used."""
        kept = self._users.get(user)
        return kept.log if kept else None

    def states_of(self, user: int) -> dict[str, bytes]:
        """Return the user's states by version; empty if the user is not stored."""
        kept = self._of(user)
        return kept.states if kept else {}

    def _of(self, user: int) -> _User | None:
        kept = self._users.get(user)
        if kept is None:
            return None
        if self._clock() - kept.changed > self._settings.events_ttl_s:
            self._drop(user)
            return None
        self._used[kept.rank].move_to_end(user)
        return kept

    def _changed(self, user: int, log: bytes | None, left_s: int | None) -> float:
        before, now = self._users.get(user), self._clock()
        if before is not None and before.log == log:
            return before.changed
        return now if left_s is None else now - max(0, self._settings.events_ttl_s - left_s)

    def _put(self, user: int, kept: _User) -> None:
        if user in self._users:
            self._drop(user)
        self._keep(user, kept)
        while self.bytes > self._limit and len(self._users) > 1 and (self._used[0] or self._used[1]):
            self._forget_one()

    def _keep(self, user: int, kept: _User) -> None:
        self._users[user] = kept
        self._used[kept.rank][user] = None
        self.bytes += kept.size
        self._unsent_bytes += kept.log_size if kept.unsent else 0

    def _drop(self, user: int) -> None:
        kept = self._users.pop(user)
        del self._used[kept.rank][user]
        self.bytes -= kept.size
        self._unsent_bytes -= kept.log_size if kept.unsent else 0

    def _forget_one(self) -> None:
        user = next(iter(self._used[0] or self._used[1]))
        kept = self._users[user]
        self._drop(user)
        if kept.unsent:
            kept.states = {}
            self._keep(user, kept)
        else:
            self.forgotten += 1


def with_state(states: dict[str, bytes], version: str, state: bytes) -> dict[str, bytes]:
    """Return `states` with this one added. Of other versions, only the last written state is kept, for a rollback."""
    others = [name for name in states if name != version][-1:]
    return {**{name: states[name] for name in others}, version: state}
