"""Users' events and states in Redis, shared by all workers.

All keys of a user have the same hash tag, so a Redis cluster keeps them together. They expire, so an eviction policy may drop any
of them (`maxmemory-policy volatile-lru` bounds the total memory). A dropped state is rebuilt from the events. If the events are
dropped, the user is treated as new.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import redis

from configs.serving import RedisSettings, StateSettings
from serving.state.redis_link import Command, RedisLink
from serving.state.redis_scripts import APPEND, LEFT, SET_ASIDE, WRITE
from serving.state.store import Appended, StateStore, Stored
from serving.state.user_log import HEAD, Outcome, is_sound, new_epoch

__all__ = ["SLOW", "RedisStates"]

logger = logging.getLogger(__name__)
SCRIPTS = {hashlib.sha1(script.encode()).hexdigest(): script for script in (APPEND, WRITE, SET_ASIDE, LEFT)}
SHA = {script: sha for sha, script in SCRIPTS.items()}
OUTCOMES = tuple(Outcome)
SENT_AT_ONCE = 64  # commands; a call for many users must not look like a slow Redis
NOWHERE = -2  # Redis's answer for the TTL of a key that it does not have
SLOW = 0.4  # share of the timeout that the latest calls may take on average


class RedisStates(StateStore):
    """Users' data in Redis. Every call is one round trip, and raises an error of `redis_faults.FAULTS` if Redis is down.

    A fault of one user's data fails only that user's part of a call (`failed`). A value that is not a log is renamed
    (`damaged`). `on_fault` is called with the key and the reason.
    """

    def __init__(
        self,
        settings: RedisSettings,
        state: StateSettings,
        on_fault: Callable[[str, str], None] = lambda key, why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert settings.url is not None
        self._settings, self._state, self._on_fault = settings, state, on_fault
        self.link = RedisLink(settings.url, settings.timeout_s, clock)

    @property
    def slow(self) -> bool:
        """Whether the latest calls took so long that requests should not wait for Redis."""
        return self.link.mean_s > SLOW * self._settings.timeout_s

    def read(self, users: Sequence[int], version: str, strangers: Collection[int] | None = None) -> list[Stored]:
        """Return the users' data. Only that of `strangers`, by default everybody, says how long the log will still be kept."""
        if not users:
            return []
        keys = [self._keys(user, version) for user in users]
        new = list(users) if strangers is None else [user for user in users if user in strangers]
        commands: list[Command] = [("MGET", *[key for events, state, _ in keys for key in (events, state)])]
        if new:
            commands.append(self._call(LEFT, [self._keys(user, version)[0] for user in new]))
        values, *rest = self._run(commands)
        if isinstance(values, Exception):
            raise values
        left: dict[int, int] = {}
        if rest and not isinstance(rest[0], Exception):
            left = dict(zip(new, rest[0], strict=True))
        found = []
        doubtful = []  # MGET also answers None for a value of another type
        for place, user in enumerate(users):
            log, state = values[2 * place : 2 * place + 2]
            if not is_sound(log) if log else left.get(user) != NOWHERE:
                doubtful.append(place)
                log = state = None
            found.append(Stored(log or None, _state(state), _seconds(left.get(user))))
        if doubtful:
            self._set_aside(doubtful, keys, found)
        return found

    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        ttl, limit = self._state.events_ttl_s, self._state.events
        keys = [self._keys(user, version) for user, _ in events]
        replies = self._run(
            [self._call(APPEND, own, limit, ttl, new_epoch(), entries) for own, (_, entries) in zip(keys, events, strict=True)]
        )
        result = []
        for own, reply in zip(keys, replies, strict=True):
            if isinstance(reply, Exception):
                self._report(own[0], str(reply))
                result.append(Appended(b"", None, [], failed=True))
                continue
            log, state, outcomes, left, damaged = reply
            if damaged:
                self._report_damage(own)
            result.append(
                Appended(log, _state(state), [OUTCOMES[code] for code in outcomes], left_s=_seconds(left), damaged=bool(damaged))
            )
        return result

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        if states:
            keys = [self._keys(user, version) for user, _ in states]
            ttl = self._state.state_ttl_s
            replies = self._run([self._call(WRITE, own[:2], ttl, state) for own, (_, state) in zip(keys, states, strict=True)])
            for own, reply in zip(keys, replies, strict=True):
                if isinstance(reply, Exception):  # a state is rebuilt when needed
                    self._report(own[1], str(reply))

    def merge(self, logs: Sequence[tuple[int, bytes, int]]) -> list[int]:
        """Merge logs that were kept in memory, each with the seconds that it may still be kept. Return the users who failed.

        A log that Redis does not have is stored unchanged. Otherwise its events are added, without duplicates.
        """
        commands: list[Command] = []
        for user, log, left_s in logs:
            keys = self._keys(user, "-")
            commands.append(("SET", keys[0], log, "EX", left_s, "NX"))
            # This adds nothing to a log that was just set, because it already holds all these events.
            args = (self._state.events, self._state.events_ttl_s, new_epoch(), log[HEAD.size :])
            commands.append(self._call(APPEND, keys, *args))
        replies = self._run(commands) if commands else []
        failed = []
        for place, (user, _, _) in enumerate(logs):
            own = replies[2 * place : 2 * place + 2]
            error = next((reply for reply in own if isinstance(reply, Exception)), None)
            if error is not None:
                self._report(self._keys(user, "")[0], str(error))
                failed.append(user)
            elif own[1][4]:
                self._report_damage(self._keys(user, ""))
        return failed

    def erase(self, users: Sequence[int], versions: Sequence[str]) -> bool:
        own = [self._keys(user, "-") for user in users]
        tags = [f"{self._settings.prefix}:{{{user}}}" for user in users]
        states = [[f"{tag}:state:{version}" for version in versions] for tag in tags]
        replies = self._run([("UNLINK", keys[0], keys[2], *more) for keys, more in zip(own, states, strict=True)])
        return not any(isinstance(reply, Exception) for reply in replies)

    def life(self) -> str:
        """Return an id that changes after each restart, and after all keys were removed. Earlier data may then be lost."""
        key = f"{self._settings.prefix}:life"  # without an expiry, so `volatile-lru` never evicts it
        new = secrets.token_hex(8).encode()
        _, drawn = self._run([("SET", key, new, "NX"), ("GET", key)])
        if isinstance(drawn, Exception):
            self._report(key, str(drawn))
            self._run([("SET", key, new)])
            drawn = new
        try:
            (info,) = self._run([("INFO", "server")])
            run = next((line.removeprefix(b"run_id:") for line in info.splitlines() if line.startswith(b"run_id:")), b"")
        except redis.ResponseError:  # some proxies do not allow INFO
            run = b""
        return f"{run.decode()}/{(drawn or b'').decode()}"

    def ping(self) -> None:
        self._run([("PING",)])

    def close(self) -> None:
        self.link.close()

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the commands' replies. Load the scripts that Redis does not know, and send their commands again."""
        replies: list[Any] = []
        for start in range(0, len(commands), SENT_AT_ONCE):
            replies += self.link.send(commands[start : start + SENT_AT_ONCE])
        unknown = [
            place
            for place, (command, reply) in enumerate(zip(commands, replies, strict=True))
            if isinstance(reply, redis.exceptions.NoScriptError) and command[0] == "EVALSHA"
        ]
        if unknown:
            missing = {str(commands[place][1]) for place in unknown}
            self.link.send([("SCRIPT", "LOAD", SCRIPTS[sha]) for sha in missing])
            for place, reply in zip(unknown, self.link.send([commands[place] for place in unknown]), strict=True):
                if isinstance(reply, redis.exceptions.NoScriptError):
                    raise reply
                replies[place] = reply
        return replies

    def _set_aside(self, places: Sequence[int], keys: Sequence[tuple[str, str, str]], found: list[Stored]) -> None:
        ttl = self._state.events_ttl_s
        replies = self._run([self._call(SET_ASIDE, keys[place][::2], ttl) for place in places])
        for place, reply in zip(places, replies, strict=True):
            if isinstance(reply, Exception):
                self._report(keys[place][0], str(reply))
                found[place] = Stored(None, None, failed=True)
            elif reply:
                self._report_damage(keys[place])
                found[place] = Stored(None, None, damaged=True)

    def _report_damage(self, keys: tuple[str, str, str]) -> None:
        self._report(keys[0], f"it is not a log of events; it was renamed to {keys[2]}")

    def _report(self, key: str, why: str) -> None:
        logger.error("a value in Redis cannot be used", extra={"key": key, "reason": why})
        self._on_fault(key, why)

    def _call(self, script: str, keys: Sequence[str], *args: bytes | str | int) -> Command:
        return ("EVALSHA", SHA[script], len(keys), *keys, *args)

    def _keys(self, user: int, version: str) -> tuple[str, str, str]:
        tag = f"{self._settings.prefix}:{{{user}}}"
        return f"{tag}:events", f"{tag}:state:{version}", f"{tag}:events:damaged"


def _seconds(left: int | None) -> int | None:
    return left if left is not None and left >= 0 else None


def _state(value: bytes | None) -> bytes | None:
    """Return what may be a state: it has a head. Only the model knows the rest of it."""
    return value if value is not None and len(value) >= HEAD.size else None
