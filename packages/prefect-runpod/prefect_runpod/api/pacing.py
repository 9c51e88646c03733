"""Keep a client within an account's rate limits, so that 429 is the exception.

RunPod reports the limits in each answer (draft-ietf-httpapi-ratelimit-headers): `RateLimit-Policy: "minute";q=60;w=60, ...`. It
also reports how much is left: `RateLimit: "minute";r=0;t=12`. Until the first answer, one configured limit applies.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, get_args

__all__ = ["Kind", "Pace"]

Kind = Literal["read", "create", "delete"]
POLICY = re.compile(r'"[^"]*"\s*;\s*q=(\d+)\s*;\s*w=(\d+)')
LEFT = re.compile(r'"[^"]*"\s*;\s*r=(\d+)\s*;\s*t=(\d+)')


class Pace:
    """Lets requests through one by one. Requests of one kind keep the order in which they arrive, and kinds do not wait for others.

    A create that RunPod puts off must not keep a delete waiting, because only a delete ends a bill. For the same reason, a delete
    may use the share `reserved` of each limit, which is otherwise left to other users of the account. No request waits for longer
    than `most_s`, whatever RunPod asks for.
    """

    def __init__(
        self,
        requests: int,
        reserved: float = 0.1,
        most_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = [(requests, requests, 60.0)]
        self._reserved, self._most_s, self._clock, self._sleep = reserved, most_s, clock, sleep
        self._sent: deque[float] = deque()
        self._not_before = dict.fromkeys(get_args(Kind), clock())
        self._turns = {kind: asyncio.Lock() for kind in get_args(Kind)}

    async def turn(self, kind: Kind = "read") -> None:
        """Wait until one more request of that kind may be sent."""
        async with self._turns[kind]:
            last = self._clock() + self._most_s
            while (wait := min(self._wait_s(kind), last - self._clock())) > 0:
                await self._sleep(wait)
            self._sent.append(self._clock())

    def pause(self, seconds: float, kind: Kind | None = None) -> None:
        """Send nothing of that kind, or nothing at all, for `seconds` (at most `most_s`)."""
        until = self._clock() + min(seconds, self._most_s)
        for paused in self._not_before if kind is None else (kind,):
            self._not_before[paused] = max(self._not_before[paused], until)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Read the account's limits from an answer. If one of them is used up, pause."""
        limits = [(int(q), float(w)) for q, w in POLICY.findall(headers.get("ratelimit-policy", "")) if int(q) and float(w)]
        if limits:
            self._limits = [(max(1, int(q * (1 - self._reserved))), q, w) for q, w in limits]
        for left, seconds in LEFT.findall(headers.get("ratelimit", "")):
            if int(left) == 0:
                self.pause(float(seconds))

    def _wait_s(self, kind: Kind) -> float:
        now = self._clock()
        longest = max(window for _, _, window in self._limits)
        while self._sent and self._sent[0] <= now - longest:
            self._sent.popleft()
        waits = [self._not_before[kind] - now]
        for own, complete, window in self._limits:
            requests = complete if kind == "delete" else own
            if len(self._sent) >= requests:
                waits.append(self._sent[-requests] + window - now)
        return max(waits)
