"""Users' events and states in Redis, shared by all workers.

Both keys of a user have the same hash tag, so a Redis cluster keeps them together. Both keys expire, so an eviction policy may
drop either of them (`maxmemory-policy volatile-lru` bounds the total memory). A dropped state is rebuilt from the events. If the
events are dropped, the user is treated as new.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from configs.serving import RedisSettings, StateSettings
from serving.state.store import Appended, StateStore, Stored
from serving.state.user_log import HEAD, Outcome, new_epoch

__all__ = ["RedisStates"]

# `user_log.append` as a script inside Redis, because any number of workers may append events of one user at once.
APPEND = """
local limit, ttl, epoch, entries = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local log = redis.call('GET', KEYS[1])
local own, count, events = epoch, 0, ''
if log and #log > 0 then
  own, count, events = string.sub(log, 1, 8), struct.unpack('<i8', log, 9), string.sub(log, 17)
end
local outcomes = {}
for start = 1, #entries, 24 do
  local added = string.sub(entries, start, start + 23)
  local key, at, held = string.sub(added, 17, 24), 1, false
  repeat
    local found = string.find(events, key, at, true)
    if found then
      held = found % 24 == 17
      at = found + 1
    end
  until held or not found
  if held then
    outcomes[#outcomes + 1] = 2
  else
    local time, place = struct.unpack('<i8', added), #events
    while place > 0 and struct.unpack('<i8', events, place - 23) > time do
      place = place - 24
    end
    if place == 0 and #events >= limit * 24 then
      outcomes[#outcomes + 1] = 3
    else
      if place < #events then
        own = epoch
        outcomes[#outcomes + 1] = 1
      else
        outcomes[#outcomes + 1] = 0
      end
      count = count + 1
      events = string.sub(events, 1, place) .. added .. string.sub(events, place + 1)
      if #events > limit * 24 then
        events = string.sub(events, #events - limit * 24 + 1)
      end
    end
  end
end
local after = own .. struct.pack('<i8', count) .. events
if after ~= log then redis.call('SET', KEYS[1], after, 'EX', ttl) end
return {after, redis.call('GET', KEYS[2]), unpack(outcomes)}
"""

# A state is stored only if it belongs to the current log and is newer than the stored state.
WRITE = """
local own = redis.call('GETRANGE', KEYS[1], 0, 7)
if own ~= string.sub(ARGV[2], 1, 8) then return 0 end
local before = redis.call('GETRANGE', KEYS[2], 0, 15)
if string.sub(before, 1, 8) == own and struct.unpack('<i8', before, 9) >= struct.unpack('<i8', ARGV[2], 9) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', tonumber(ARGV[1]))
return 1
"""


class RedisStates(StateStore):
    """Users' data in Redis. Every call is one round trip, and raises redis.RedisError if Redis does not answer in time."""

    def __init__(self, settings: RedisSettings, state: StateSettings) -> None:
        assert settings.url is not None
        self._settings, self._state = settings, state
        timeout = settings.timeout_s
        self._client: Any = redis.Redis.from_url(
            settings.url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._append, self._write = self._client.register_script(APPEND), self._client.register_script(WRITE)

    def read(self, users: Sequence[int], version: str) -> list[Stored]:
        keys = [key for user in users for key in self._keys(user, version)]
        values = self._client.mget(keys) if keys else []
        return [Stored(values[place], values[place + 1]) for place in range(0, len(values), 2)]

    def append(self, events: Sequence[tuple[int, bytes]], version: str) -> list[Appended]:
        pipe = self._pipeline()
        for user, entries in events:
            ttl = self._state.events_ttl_s
            self._append(keys=self._keys(user, version), args=(self._state.events, ttl, new_epoch(), entries), client=pipe)
        return [Appended(log, state, [Outcome(code) for code in codes]) for log, state, *codes in pipe.execute()]

    def write(self, states: Sequence[tuple[int, bytes]], version: str) -> None:
        if not states:
            return
        pipe = self._pipeline()
        for user, state in states:
            self._write(keys=self._keys(user, version), args=(self._state.state_ttl_s, state), client=pipe)
        pipe.execute()

    def merge(self, logs: Sequence[tuple[int, bytes, int]]) -> None:
        """Merge logs that were kept in memory, each with the seconds that it may still be kept.

        A log that Redis does not have is stored unchanged. Otherwise its events are added one by one, without duplicates.
        """
        if not logs:
            return
        pipe = self._pipeline()
        for user, log, left_s in logs:
            pipe.set(self._keys(user, "")[0], log, ex=left_s, nx=True)
            # This adds nothing to a log that was just set, because it already holds all these events.
            keys, args = self._keys(user, "-"), (self._state.events, self._state.events_ttl_s, new_epoch(), log[HEAD.size :])
            self._append(keys=keys, args=args, client=pipe)
        pipe.execute()

    def life(self) -> str:
        """Return an id that changes after each restart, and after all keys were removed. Earlier data may then be lost."""
        key = f"{self._settings.prefix}:life"  # without an expiry, so `volatile-lru` never evicts it
        pipe = self._pipeline()
        pipe.set(key, secrets.token_hex(8), nx=True)
        pipe.get(key)
        _, drawn = pipe.execute()
        try:
            run = str(self._client.info("server").get("run_id", ""))
        except redis.ResponseError:  # some proxies do not allow INFO
            run = ""
        return f"{run}/{(drawn or b'').decode()}"

    def ping(self) -> None:
        self._client.ping()

    def close(self) -> None:
        self._client.close()

    def _pipeline(self) -> Any:
        return self._client.pipeline(transaction=False)

    def _keys(self, user: int, version: str) -> tuple[str, str]:
        tag = f"{self._settings.prefix}:{{{user}}}"
        return f"{tag}:events", f"{tag}:state:{version}"
