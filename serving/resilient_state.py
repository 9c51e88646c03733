"""Redis with this process's memory behind it: a server goes on when Redis is down, and nothing that it took is lost.

What goes through Redis is also kept in memory. While Redis is down the memory serves, and its users are noted; when Redis is
back, their events are merged into it, each once, before it is asked about them. All users of the memory are merged after an
outage, and where a log has fewer events than the memory has and Redis is not the one it was (restarted, or emptied). A log that
is gone from the same Redis was let go (its time had come, room was short, somebody erased it), and the memory lets it go too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import TypeVar

import redis

from configs.serving import RedisSettings, StateSettings
from serving.redis_state import RedisStates
from serving.state import Appended, LocalStates, StateStore, Stored, with_state
from serving.user_log import HEAD

__all__ = ["ResilientStates"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
MERGED_AT_ONCE = 16  # users, besides those that are asked for
MERGED_AT_END = 64  # users of one call while closing


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
        self._unsent: dict[int, None] = {}  # users with events that Redis was not told of, in the order they came
        self._suspect: dict[int, None] = {}  # users whose events Redis had, and may have lost
        self._life: str | None = None  # of the Redis that was spoken to last
        self._down_until: float | None = None
        self.lost = 0  # users whose events could not wait for Redis

    @property
    def down(self) -> bool:
        return self._down_until is not None

    @property
    def unsent(self) -> int:
        """Users whose events Redis may not have."""
        return len(self._unsent.keys() | self._suspect.keys())

    def read(self, users: Sequence[int], version: str) -> list[Stored]:
        def remote() -> list[Stored]:
            found = self._redis.read(users, version)
            if self._restored([(user, stored.log) for user, stored in zip(users, found, strict=True)]):
                found = self._redis.read(users, version)
            for user, stored in zip(users, found, strict=True):
                if stored.log is None:
                    self.local.forget(user)
                else:
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
            for user in users:
                if user not in self._unsent:  # from here on the log is not a continuation of what Redis or other workers have
                    self.local.fork(user)
                self._wait_for_redis(user)
            done = self.local.append(events, version)
        return done

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        self.local.write(states, version)
        self._try(lambda: self._redis.write(states, version), [])

    def close(self) -> None:
        """Send what waits, also where Redis was down a moment ago: there is no later."""
        waiting = [*self._unsent, *(user for user in self._suspect if user not in self._unsent)]
        try:
            for start in range(0, len(waiting), MERGED_AT_END):
                self._merge(waiting[start : start + MERGED_AT_END])
        except (redis.RedisError, OSError) as error:
            self.lost += len(self._unsent)
            logger.error(
                "Redis did not take what this worker kept for it",
                extra={"users": len(self._unsent), "reason": str(error) or type(error).__name__},
            )
        self._redis.close()

    def recover(self) -> None:
        """Ask Redis again after an outage, and send some of what waits; for when no request does it."""
        if self.down or self._unsent or self._suspect:
            self._try(self._redis.ping, [])

    def _try(self, operation: Callable[[], Result], users: Sequence[int]) -> Result | None:
        """The operation on Redis, after what waits of these users; None while Redis is down."""
        if self._down_until is not None and self._clock() < self._down_until:
            return None
        try:
            if self.down or self._life is None:
                self._life = self._redis.life()
                if self.down:
                    self._expect_loss()
            wanted = [user for user in dict.fromkeys(users) if user in self._unsent or user in self._suspect]
            others = [user for user in islice(chain(self._unsent, self._suspect), MERGED_AT_ONCE) if user not in wanted]
            self._merge(list(dict.fromkeys(wanted + others)))
            result = operation()
        except (redis.RedisError, OSError) as error:
            if self._down_until is None:
                self._on_outage(True, str(error) or type(error).__name__)
            self._down_until = self._clock() + self._settings.retry_s
            return None
        if self.down:
            self._down_until = None
            self._on_outage(False, "")
        return result

    def _restored(self, logs: Sequence[tuple[int, bytes | None]]) -> bool:
        """Whether Redis had lost events of these users, which it has again now."""
        behind = [user for user, log in logs if _count(log) < _count(self.local.log_of(user))]
        if not behind:
            return False
        life = self._redis.life()
        if life == self._life:
            return False
        self._life = life
        self._expect_loss()
        self._merge(list(dict.fromkeys(behind)))
        return True

    def _expect_loss(self) -> None:
        """Who has lost one user's events may have lost all."""
        self._suspect.update(dict.fromkeys(self.local.users()))

    def _merge(self, users: Sequence[int]) -> None:
        if not users:
            return
        logs = [(user, self.local.log_of(user), self.local.left_s(user)) for user in users]
        self._redis.merge([(user, log, left) for user, log, left in logs if log is not None])
        self.lost += sum(log is None and user in self._unsent for user, log, _ in logs)
        for user in users:
            self._unsent.pop(user, None)
            self._suspect.pop(user, None)

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
