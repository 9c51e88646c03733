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

__all__ = ["Pace"]

POLICY = re.compile(r'"[^"]*"\s*;\s*q=(\d+)\s*;\s*w=(\d+)')
LEFT = re.compile(r'"[^"]*"\s*;\s*r=(\d+)\s*;\s*t=(\d+)')


class Pace:
    """Lets requests through one by one, in the order in which they arrive.

    `reserved` is the share of each limit that is kept free for other users of the account.
    """

    def __init__(
        self,
        requests: int,
        window_s: float = 60.0,
        reserved: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = [(requests, window_s)]
        self._reserved, self._clock, self._sleep = reserved, clock, sleep
        self._sent: deque[float] = deque()
        self._not_before = clock()
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until one more request may be sent."""
        async with self._turn:
            while (wait := self._wait_s()) > 0:
                await self._sleep(wait)
            self._sent.append(self._clock())

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`."""
        self._not_before = max(self._not_before, self._clock() + seconds)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Read the account's limits from an answer. If one of them is used up, pause."""
        limits = [(int(q), float(w)) for q, w in POLICY.findall(headers.get("ratelimit-policy", "")) if int(q) and float(w)]
        if limits:
            self._limits = [(max(1, int(q * (1 - self._reserved))), w) for q, w in limits]
        for left, seconds in LEFT.findall(headers.get("ratelimit", "")):
            if int(left) == 0:
                self.pause(float(seconds))

    def _wait_s(self) -> float:
        now = self._clock()
        longest = max(window for _, window in self._limits)
        while self._sent and self._sent[0] <= now - longest:
            self._sent.popleft()
        waits = [self._not_before - now]
        for requests, window in self._limits:
            if len(self._sent) >= requests:
                waits.append(self._sent[-requests] + window - now)
        return max(waits)
