"""Redis backed by this process's memory: a server keeps working when Redis is down, and no accepted event is lost.

Everything that goes through Redis is also kept in memory. While Redis is down, requests are served from memory and their users
are recorded. A thread tries Redis again. When Redis is back, these users' events are merged into it, without duplicates, before it
is queried for them. Redis is also down if its answers are slow: a call waits for at most one timeout, and after a few slow
answers requests wait no more.

All users in memory are merged after an outage. They are also merged if a log has fewer events in Redis than in memory and Redis
was restarted or emptied. If a log is missing but Redis was neither restarted nor emptied, the log expired, was evicted or was
deleted. It is then dropped from memory too.

If only one user's data fail, that user is served from memory for a while, as in an outage, and Redis is used for all others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeVar

from configs.errors import OverloadedError
from configs.serving import RedisSettings, StateSettings
from serving.state.redis_faults import FAULTS
from serving.state.redis_store import SLOW, RedisStates
from serving.state.store import Appended, LocalStates, StateStore, Stored, with_state
from serving.state.user_log import HEAD

__all__ = ["FailoverStates", "run_in_thread"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
MERGED_AT_ONCE = 16  # users merged with one operation, besides those it is about
MERGED_AT_END = 64  # users merged with one call while closing
CLOSING_S = 5.0  # for sending what waits while closing
PROBES = 3  # answers that must be fast before Redis is used again
HELD_S = 60.0  # for which a user whose data failed in Redis is served from memory
STABLE_S = 10.0  # an outage that begins sooner after the last one doubles the time until Redis is tried again
MOST_RETRY_S = 30.0


def run_in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="redis-probe", daemon=True).start()


class FailoverStates(StateStore):
    """Stores users' data in Redis, with memory as the fallback. Requests never wait for Redis while it is down."""

    def __init__(
        self,
        settings: RedisSettings,
        state: StateSettings,
        on_outage: Callable[[bool, str], None] = lambda down, why: None,
        on_fault: Callable[[str, str], None] = lambda key, why: None,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = run_in_thread,
    ) -> None:
        """Create the store. It connects to Redis with the first call.

        Args:
            settings: How to reach Redis.
            state: What to keep.
            on_outage: Is called with True and the reason when Redis stops answering, and with False when it is back.
            on_fault: Is called with a key whose value cannot be used, and the reason.
            clock: Monotonic seconds.
            start: Runs the function that tries Redis again, in a thread.
        """
        self._settings, self._state = settings, state
        self._on_outage, self._on_fault, self._clock, self._start = on_outage, on_fault, clock, start
        self._redis, self.local = self._new(), LocalStates(state)
        self._unsent: dict[int, None] = {}  # users with events that were not sent to Redis yet, in order of arrival
        self._suspect: dict[int, None] = {}  # users whose events Redis had, but may have lost
        self._held: dict[int, float] = {}  # users whose data failed in Redis, and when they are tried again
        self._life: str | None = None  # id of the Redis that answered last
        self.down = False
        self._probing, self._closed = False, False
        self._found: tuple[RedisStates, str] | None = None  # a Redis that answers, and its id
        self._retry_at, self._retry_s, self._up_at = 0.0, settings.retry_s, -STABLE_S
        self.lost = 0  # users whose events could not be kept until Redis had them

    @property
    def unsent(self) -> int:
        """The number of users whose events Redis may not have."""
        return len(self._unsent.keys() | self._suspect.keys())

    def read(self, users: Sequence[int], version: str) -> list[Stored]:
        def remote() -> list[Stored]:
            strangers = {user for user in users if self.local.log_of(user) is None}
            found = self._redis.read(users, version, strangers)
            if self._restored(users, found):
                found = self._redis.read(users, version, strangers)
            return [self._mirrored(user, stored, version) for user, stored in zip(users, found, strict=True)]

        found = self._try(remote, users)
        return self.local.read(users, version) if found is None else found

    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        def remote() -> list[Appended]:
            sent = [(user, entries) for user, entries in events if user not in self._held]
            self._require_room([(user, entries) for user, entries in events if user in self._held])  # before anything is stored
            users = [user for user, _ in sent]
            done = dict(zip(users, self._redis.append(sent, version), strict=True))
            if self._restored(users, list(done.values())):
                for user, stored in zip(users, self._redis.read(users, version, ()), strict=True):
                    added = done[user]
                    done[user] = replace(added, log=stored.log or added.log, state=stored.state)
            for user, added in done.items():
                if added.failed:
                    self._hold(user)
                else:
                    self._mirror(user, added.log, version, added.state, added.left_s)
            here = [(user, entries) for user, entries in events if user in self._held]
            done |= dict(zip([user for user, _ in here], self._append_here(here, version), strict=True))
            return [done[user] for user, _ in events]

        done = self._try(remote, [user for user, _ in events])
        return self._append_here(events, version) if done is None else done

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        self.local.write(states, version)
        shared = [(user, state) for user, state in states if user not in self._held]
        self._try(lambda: self._redis.write(shared, version), [])

    def erase(self, users: Sequence[int], versions: Sequence[str]) -> bool:
        """Delete all data of users here, and in Redis if it answers."""
        self.local.erase(users)
        for user in users:
            self._unsent.pop(user, None)
            self._suspect.pop(user, None)
            self._held.pop(user, None)

        return bool(self._try(lambda: self._redis.erase(users, versions), []))

    def close(self) -> None:
        """Send all waiting events, even if Redis was down a moment ago: this is the last chance."""
        self._closed = True
        waiting = list(self._unsent | self._suspect)
        self._redis.link.start_call(CLOSING_S)
        try:
            for start in range(0, len(waiting), MERGED_AT_END):
                self._merge(waiting[start : start + MERGED_AT_END])
            reason = "their values in Redis cannot be used"
        except FAULTS as error:
            reason = _reason(error)
        if self._unsent:
            self.lost += len(self._unsent)
            logger.error(
                "events that were waiting for Redis could not be sent and are lost",
                extra={"users": len(self._unsent), "reason": reason},
            )
        self._redis.close()
        if self._found is not None:
            self._found[0].close()

    def recover(self) -> None:
        """Try Redis again after an outage, and send some of the waiting events, in case no request does so."""
        now = self._clock()
        for user in [user for user, until in self._held.items() if until <= now]:
            del self._held[user]
        if self.down or self._unsent or self._suspect:
            self._try(self._redis.ping, [])

    def _try(self, operation: Callable[[], Result], users: Sequence[int]) -> Result | None:
        """Run the operation on Redis, after sending these users' waiting events. Return None while Redis is down."""
        if self.down and not self._is_back():
            return None
        try:
            self._redis.link.start_call()
            if self._life is None:
                self._life = self._redis.life()
            if self._unsent or self._suspect:
                self._merge_first(users)
            result = operation()
        except FAULTS as error:
            self._give_up(_reason(error))
            return None
        finally:
            self._redis.link.end_call()
        if self.down:
            self.down, self._up_at = False, self._clock()
            self._on_outage(False, "")
        if self._redis.slow:
            mean, most = 1000 * self._redis.link.mean_s, 1000 * SLOW * self._settings.timeout_s
            self._give_up(f"it is slow: its latest answers took {mean:.0f} ms on average, and {most:.0f} ms are accepted")
        return result

    def _give_up(self, why: str) -> None:
        """Serve from memory from now on."""
        now = self._clock()
        if not self.down:
            stable = now - self._up_at >= STABLE_S
            self._retry_s = (
                self._settings.retry_s if stable else min(2 * self._retry_s, max(MOST_RETRY_S, self._settings.retry_s))
            )
            self.down = True
            self._on_outage(True, why)
        self._retry_at = now + self._retry_s
        self._redis.close()

    def _is_back(self) -> bool:
        """Return whether a thread has found that Redis answers fast. If none is trying and it is time, start one."""
        if self._found is None and not self._probing and self._clock() >= self._retry_at:
            self._probing = True
            self._start(self._probe)
        if self._found is None:
            return False
        (self._redis, self._life), self._found = self._found, None
        self._expect_loss()
        return True

    def _probe(self) -> None:
        """Look whether Redis answers, and how fast. Runs in a thread."""
        redis, found = self._new(), False
        try:
            life = redis.life()
            started = self._clock()
            for _ in range(PROBES):
                redis.ping()
            found = self._clock() - started <= PROBES * SLOW * self._settings.timeout_s and not self._closed
        except FAULTS:
            pass  # it is still down, which `on_outage` said
        except Exception:
            logger.exception("the thread that tries Redis again failed")
        if found:
            self._found = redis, life
        else:
            redis.close()
        self._retry_at = self._clock() + self._retry_s
        self._probing = False

    def _new(self) -> RedisStates:
        return RedisStates(self._settings, self._state, self._on_fault, self._clock)

    def _append_here(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        """Append events in memory, until Redis can take them.

        Raises:
            OverloadedError: There is no room for more events that Redis does not have. None of `events` was kept.
        """
        self._require_room(events)
        for user, _ in events:
            if user not in self._unsent:  # from here on, the log diverges from Redis and other workers
                self.local.fork(user)
                self._unsent[user] = None
                self.local.protect(user, unsent=True)
        return self.local.append(events, version, unsent=True)

    def _require_room(self, events: Sequence[tuple[int, bytes]]) -> None:
        new = sum(user not in self._unsent for user, _ in events)
        if events and (len(self._unsent) + new > self._state.unsent_users or not self.local.has_room(events)):
            raise OverloadedError(
                "The events that wait for Redis have reached the limit (state.unsent_users or state.local_mb). "
                "Send the events again in a moment."
            )

    def _restored(self, users: Sequence[int], found: Sequence[Stored | Appended]) -> bool:
        """Return whether Redis had lost events of these users. If so, they have been restored."""
        known = [(user, each) for user, each in zip(users, found, strict=True) if not each.failed and user not in self._held]
        damaged = [user for user, each in known if each.damaged and self.local.log_of(user) is not None]
        if damaged:
            self._merge(damaged)
        behind = [user for user, each in known if not each.damaged and _count(each.log) < _count(self.local.log_of(user))]
        if not behind:
            return bool(damaged)
        life = self._redis.life()
        if life == self._life:
            return bool(damaged)
        self._life = life
        self._expect_loss()
        self._merge(behind)
        return True

    def _expect_loss(self) -> None:
        """Suspect all users in memory: a Redis that lost one user's events may have lost all."""
        self._suspect.update(dict.fromkeys(self.local.users()))

    def _merge_first(self, users: Sequence[int]) -> None:
        """Send the waiting events of these users, and of some others."""
        wanted = [user for user in dict.fromkeys(users) if user in self._unsent or user in self._suspect]
        ready = (user for user in chain(self._unsent, self._suspect) if user not in self._held)
        waiting = islice(ready, MERGED_AT_ONCE)
        self._merge([user for user in dict.fromkeys([*wanted, *waiting]) if user not in self._held])

    def _merge(self, users: Sequence[int]) -> None:
        logs = [(user, self.local.log_of(user), self.local.left_s(user)) for user in users]
        failed = set(self._redis.merge([(user, log, left) for user, log, left in logs if log is not None]))
        for user, log, _ in logs:
            unsent = user in self._unsent
            self._unsent.pop(user, None)
            self._suspect.pop(user, None)
            if user in failed:
                self._hold(user)
                self._unsent[user] = None  # behind those who can be sent
            self.lost += unsent and log is None
            self.local.protect(user, unsent=user in failed)

    def _hold(self, user: int) -> None:
        """Serve the user from memory for a while."""
        self._held[user] = self._clock() + HELD_S

    def _mirrored(self, user: int, stored: Stored, version: str) -> Stored:
        """Return a user's data, and keep a copy in memory."""
        if stored.failed:
            self._hold(user)
        if user in self._held:
            return self.local.read([user], version)[0]
        if stored.log is None:
            self.local.forget(user)
        else:
            self._mirror(user, stored.log, version, stored.state, stored.left_s)
        return stored

    def _mirror(self, user: int, log: bytes, version: str, state: bytes | None, left_s: int | None) -> None:
        """Keep a copy in memory. It does not replace data that Redis may have lost."""
        states = self.local.states_of(user)
        own = states if state is None or states.get(version) == state else with_state(states, version, state)
        self.local.put(user, log, own, left_s, displace=not self._suspect)


def _count(log: bytes | None) -> int:
    count: int = HEAD.unpack_from(log)[1] if log else 0
    return count


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
