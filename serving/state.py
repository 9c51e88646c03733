"""Where users' events and states are kept: the port, and the one in this process's memory.

A state's bytes are its epoch and count (`user_log.HEAD`: the log's when it was computed), the last known event that it has not
read (index, -1 where there is none, and time), and the model's float32 numbers.
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
from serving.user_log import HEAD, Outcome, append, new_epoch

__all__ = ["Appended", "LocalStates", "StateStore", "Stored", "UserState", "with_state"]

STATE_HEAD = struct.Struct("<8sqqq")


@dataclass(frozen=True, eq=False)
class UserState:
    """A model's memory of a user after `count` events."""

    epoch: bytes
    count: int
    last_item: int  # index of the last event that the model knows, -1 for none; the numbers have not read it yet
    last_time: int
    numbers: npt.NDArray[np.float32]  # (state_size,)

    def to_bytes(self) -> bytes:
        return STATE_HEAD.pack(self.epoch, self.count, self.last_item, self.last_time) + self.numbers.tobytes()

    @classmethod
    def read(cls, content: bytes | None, size: int) -> UserState | None:
        """None where there is none, or of another size: it will be rebuilt."""
        if not content or len(content) != STATE_HEAD.size + 4 * size:
            return None
        epoch, count, item, seconds = STATE_HEAD.unpack_from(content)
        return cls(epoch, count, item, seconds, np.frombuffer(content, np.float32, offset=STATE_HEAD.size))


@dataclass(frozen=True, eq=False)
class Stored:
    """What is kept of a user, for one model version."""

    log: bytes | None
    state: bytes | None


@dataclass(frozen=True, eq=False)
class Appended:
    """A user's events after some were added, and what became of each of these."""

    log: bytes
    state: bytes | None  # as it was before or while they were added
    outcomes: list[Outcome]


class StateStore(ABC):
    """Calls take many users at once and come from one thread."""

    @abstractmethod
    def read(self, users: Sequence[int], version: str) -> list[Stored]: ...

    @abstractmethod
    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        """Add `user_log` entries to users' logs: for each user at once, each event once, in order of time."""

    @abstractmethod
    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        """Keep states, but where a later one is kept already."""

    def close(self) -> None:  # noqa: B027
        """Let go of connections."""


@dataclass
class _User:
    log: bytes | None
    changed: float  # when the log came to be as it is
    states: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return 200 + len(self.log or b"") + sum(len(state) + 100 for state in self.states.values())


class LocalStates(StateStore):
    """The users of this process that were used last, within a bound of memory."""

    def __init__(self, settings: StateSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock = settings, clock
        self._users: OrderedDict[int, _User] = OrderedDict()
        self.bytes = 0
        self.forgotten = 0  # users put out for want of room

    def __len__(self) -> int:
        return len(self._users)

    def users(self) -> list[int]:
        """Least recently used first."""
        return list(self._users)

    def read(self, users: Sequence[int], version: str) -> list[Stored]:
        found = []
        for user in users:
            kept = self._of(user)
            found.append(Stored(kept.log, kept.states.get(version)) if kept else Stored(None, None))
        return found

    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        result = []
        for user, entries in events:
            kept = self._of(user) or _User(None, 0.0)
            log, outcomes = append(kept.log, entries, self._settings.events, new_epoch())
            self.put(user, log, kept.states)
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

    def put(self, user: int, log: bytes | None, states: dict[str, bytes]) -> None:
        """Keep exactly this of a user, and forget those used longest ago where memory ends."""
        before = self._users.pop(user, None)
        self.bytes -= before.size if before else 0
        changed = before.changed if before is not None and before.log == log else self._clock()
        kept = self._users[user] = _User(log, changed, states)
        self.bytes += kept.size
        while self.bytes > self._settings.local_mb << 20 and len(self._users) > 1:
            self._drop(next(iter(self._users)))
            self.forgotten += 1

    def fork(self, user: int) -> None:
        """Say of the log that it goes on by itself: a state of it is none of the log that it was a copy of."""
        kept = self._of(user)
        if kept is not None and kept.log is not None:
            epoch = new_epoch()
            kept.log = epoch + kept.log[len(epoch) :]

    def forget(self, user: int) -> None:
        if user in self._users:
            self._drop(user)

    def left_s(self, user: int) -> int:
        """Whole seconds for which the log may still be kept, at least one."""
        kept = self._users.get(user)
        age = 0.0 if kept is None else self._clock() - kept.changed
        return max(1, self._settings.events_ttl_s - int(age))

    def log_of(self, user: int) -> bytes | None:
        """Without counting as a use."""
        kept = self._users.get(user)
        return kept.log if kept else None

    def states_of(self, user: int) -> dict[str, bytes]:
        """By version; empty for a user who is not here."""
        kept = self._of(user)
        return kept.states if kept else {}

    def _of(self, user: int) -> _User | None:
        kept = self._users.get(user)
        if kept is None:
            return None
        if self._clock() - kept.changed > self._settings.events_ttl_s:
            self._drop(user)
            return None
        self._users.move_to_end(user)
        return kept

    def _drop(self, user: int) -> None:
        self.bytes -= self._users.pop(user).size


def with_state(states: dict[str, bytes], version: str, state: bytes) -> dict[str, bytes]:
    """`states` with this one, and of the other versions' the one written last: what a rollback will want."""
    others = [name for name in states if name != version][-1:]
    return {**{name: states[name] for name in others}, version: state}
