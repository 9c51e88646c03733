"""Redis backed by this process's memory: a server keeps working when Redis is down, and no accepted event is lost.

Everything that goes through Redis is also kept in memory. While Redis is down, requests are served from memory and their users
are recorded. When Redis is back, these users' events are merged into it, without duplicates, before it is queried for them.

All users in memory are merged after an outage. They are also merged if a log has fewer events in Redis than in memory and Redis
was restarted or emptied. If a log is missing but Redis was neither restarted nor emptied, the log expired, was evicted or was
deleted. It is then dropped from memory too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import TypeVar

import redis

from configs.serving import RedisSettings, StateSettings
from serving.state.redis_store import RedisStates
from serving.state.store import Appended, LocalStates, StateStore, Stored, with_state
from serving.state.user_log import HEAD

__all__ = ["FailoverStates"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
MERGED_AT_ONCE = 16  # users merged with one operation, besides those it is about
MERGED_AT_END = 64  # users merged with one call while closing


class FailoverStates(StateStore):
    """Stores users' data in Redis, with memory as the fallback.

    `on_outage` is called with True and the reason when Redis stops answering, and with False when it is back.
    """

    def __init__(
        self,
        settings: RedisSettings,
        state: StateSettings,
        on_outage: Callable[[bool, str], None] = lambda down, why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis, self.local = RedisStates(settings, state), LocalStates(state)
        self._settings, self._state, self._on_outage, self._clock = settings, state, on_outage, clock
        self._unsent: dict[int, None] = {}  # users with events that were not sent to Redis yet, in order of arrival
        self._suspect: dict[int, None] = {}  # users whose events Redis had, but may have lost
        self._life: str | None = None  # id of the Redis that answered last
        self._down_until: float | None = None
        self.lost = 0  # users whose events were dropped while waiting for Redis

    @property
    def down(self) -> bool:
        return self._down_until is not None

    @property
    def unsent(self) -> int:
        """The number of users whose events Redis may not have."""
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
                if user not in self._unsent:  # from here on, the log diverges from Redis and other workers
                    self.local.fork(user)
                self._wait_for_redis(user)
            done = self.local.append(events, version)
        return done

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        self.local.write(states, version)
        self._try(lambda: self._redis.write(states, version), [])

    def close(self) -> None:
        """Send all waiting events, even if Redis was down a moment ago: this is the last chance."""
        waiting = [*self._unsent, *(user for user in self._suspect if user not in self._unsent)]
        try:
            for start in range(0, len(waiting), MERGED_AT_END):
                self._merge(waiting[start : start + MERGED_AT_END])
        except (redis.RedisError, OSError) as error:
            self.lost += len(self._unsent)
            logger.error(
                "events that were waiting for Redis could not be sent and are lost",
                extra={"users": len(self._unsent), "reason": str(error) or type(error).__name__},
            )
        self._redis.close()

    def recover(self) -> None:
        """Try Redis again after an outage, and send some of the waiting events, in case no request does so."""
        if self.down or self._unsent or self._suspect:
            self._try(self._redis.ping, [])

    def _try(self, operation: Callable[[], Result], users: Sequence[int]) -> Result | None:
        """Run the operation on Redis, after sending these users' waiting events. Return None while Redis is down."""
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
        """Return whether Redis had lost events of these users. If so, they have been restored."""
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
        """Suspect all users in memory: a Redis that lost one user's events may have lost all."""
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
