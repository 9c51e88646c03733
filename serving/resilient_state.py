"""Redis with this process's memory behind it: a server goes on when Redis is down, and nothing that it took is lost.

What goes through Redis is also kept in memory. While Redis is down the memory serves, and its users are noted; when Redis is
back, their events are merged into it, each once, before it is asked about them. A Redis that has lost data (it was restarted)
is noticed after an outage, or by a log with fewer events than the memory has: then all users of the memory are merged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

import redis

from configs.serving import RedisSettings, StateSettings
from serving.redis_state import RedisStates
from serving.state import Appended, LocalStates, StateStore, Stored, with_state
from serving.user_log import HEAD

__all__ = ["ResilientStates"]

Result = TypeVar("Result")
MERGED_AT_ONCE = 16  # users, besides those that are asked for


class ResilientStates(StateStore):
    """`on_outage` is told of each time that Redis stops (True, and why) and comes back (False)."""

    def __init__(
        self,
        settings: RedisSettings,
        state: StateSettings,
        on_outage: Callable[[bool, str], None] = lambda down, why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis, self.local = RedisStates(settings, state), LocalStates(state)
        self._settings, self._state, self._on_outage, self._clock = settings, state, on_outage, clock
        self._unsent: dict[int, None] = {}  # users whose local events Redis may not have, in the order they came
        self._down_until: float | None = None
        self.lost = 0  # users whose events could not wait for Redis

    @property
    def down(self) -> bool:
        return self._down_until is not None

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def read(self, users: Sequence[int], version: str) -> list[Stored]:
        def remote() -> list[Stored]:
            found = self._redis.read(users, version)
            if self._restored([(user, stored.log) for user, stored in zip(users, found, strict=True)]):
                found = self._redis.read(users, version)
            for user, stored in zip(users, found, strict=True):
                if stored.log is not None:
                    self._mirror(user, stored.log, version, stored.state)
            return found

        found = self._try(remote, users)
        return self.local.read(users, version) if found is None else found

    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        users = [user for user, _ in events]

        def remote() -> list[Appended]:
            done = self._redis.append(events, version)
            if self._restored([(user, added.log) for user, added in zip(users, done, strict=True)]):
                now = self._redis.read(users, version)
                done = [
                    Appended(stored.log or added.log, stored.state, added.outcomes)
                    for stored, added in zip(now, done, strict=True)
                ]
            for user, added in zip(users, done, strict=True):
                self._mirror(user, added.log, version, added.state)
            return done

        done = self._try(remote, users)
        if done is None:
            done = self.local.append(events, version)
            for user in users:
                self._wait_for_redis(user)
        return done

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        self.local.write(states, version)
        self._try(lambda: self._redis.write(states, version), [])

    def close(self) -> None:
        self._try(lambda: self._merge(list(self._unsent)), [])
        self._redis.close()

    def recover(self) -> None:
        """Ask Redis again after an outage, and send some of what waits; for when no request does it."""
        if self.down or self._unsent:
            self._try(self._redis.ping, [])

    def _try(self, operation: Callable[[], Result], users: Sequence[int]) -> Result | None:
        """The operation on Redis, after what waits of these users; None while Redis is down."""
        if self._down_until is not None and self._clock() < self._down_until:
            return None
        try:
            wanted = [user for user in dict.fromkeys(users) if user in self._unsent]
            others = [user for user in islice(self._unsent, MERGED_AT_ONCE) if user not in wanted]
            self._merge(wanted + others)
            result = operation()
        except (redis.RedisError, OSError) as error:
            if self._down_until is None:
                self._on_outage(True, str(error) or type(error).__name__)
            self._down_until = self._clock() + self._settings.retry_s
            return None
        if self.down:
            self._down_until = None
            self._expect_loss()
            self._on_outage(False, "")
        return result

    def _restored(self, logs: Sequence[tuple[int, bytes | None]]) -> bool:
        """Whether Redis had lost events of these users, which it has again now."""
        behind = [user for user, log in logs if _count(log) < _count(self.local.log_of(user))]
        if not behind:
            return False
        self._expect_loss()
        self._merge(list(dict.fromkeys(behind)))
        return True

    def _expect_loss(self) -> None:
        """Who has lost one user's events may have lost all."""
        for user in self.local.users():
            self._wait_for_redis(user)

    def _merge(self, users: Sequence[int]) -> None:
        if not users:
            return
        logs = [(user, self.local.log_of(user)) for user in users]
        self._redis.merge([(user, log) for user, log in logs if log is not None])
        self.lost += sum(log is None for _, log in logs)
        for user in users:
            self._unsent.pop(user, None)

    def _mirror(self, user: int, log: bytes, version: str, state: bytes | None) -> None:
        states = self.local.states_of(user)
        self.local.put(user, log, states if state is None else with_state(states, version, state))

    def _wait_for_redis(self, user: int) -> None:
        self._unsent[user] = None
        if len(self._unsent) > self._state.unsent_users:
            self._unsent.pop(next(iter(self._unsent)))
            self.lost += 1


def _count(log: bytes | None) -> int:
    count: int = HEAD.unpack_from(log)[1] if log else 0
    return count
