"""Tells clients apart, and limits how often each of them may ask."""

from __future__ import annotations

import hmac
import ipaddress
import time

from cachetools import LRUCache
from starlette.types import Scope

from configs.serving import LimitSettings

__all__ = ["Clients"]

KEPT = 10_000  # clients whose rate is known, of at most `ADDRESS_LENGTH` bytes each
ADDRESS_LENGTH = 64
WRONG_KEYS_PER_S, WRONG_KEYS_AT_ONCE = 1.0, 10


class _Rate:
    """A token bucket for each client."""

    def __init__(self, per_s: float, burst: int) -> None:
        self.per_s, self._burst = per_s, float(burst)
        self._buckets: LRUCache[bytes, tuple[float, float]] = LRUCache(KEPT)  # tokens, time of the last request

    def wait(self, client: bytes) -> float:
        """Return the seconds until the client may send a request. If it may now, count the request and return 0."""
        now = time.monotonic()
        tokens, when = self._buckets.get(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - when) * self.per_s)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        return 0.0 if allowed else (1 - tokens) / self.per_s


class Clients:
    """The clients of a worker: by their key if keys are required, or else by their address."""

    def __init__(self, limits: LimitSettings) -> None:
        self._keys = [key.get_secret_value().encode() for key in limits.api_keys]
        self._requests = None if limits.rate_per_s is None else _Rate(limits.rate_per_s, limits.burst)
        self._wrong_keys = _Rate(WRONG_KEYS_PER_S, WRONG_KEYS_AT_ONCE)

    def knows(self, key: bytes) -> bool:
        """Return whether a request with this key may be answered."""
        return not self._keys or any([hmac.compare_digest(key, known) for known in self._keys])

    def wait_after_wrong_key(self, scope: Scope) -> float:
        """Return the seconds for which the address must not try another key, or 0."""
        return self._wrong_keys.wait(_address(scope))

    def wait(self, scope: Scope, key: bytes) -> float:
        """Return the seconds until the client may send a request, or 0."""
        if self._requests is None:
            return 0.0
        return self._requests.wait(key if self._keys else _address(scope))


def _address(scope: Scope) -> bytes:
    """Return the client's address, or its network for IPv6: one client has a whole network of 2**64 addresses."""
    text: str = (scope.get("client") or ("",))[0][:ADDRESS_LENGTH]
    if ":" in text:
        try:
            address = ipaddress.IPv6Address(text)
            return str(address.ipv4_mapped).encode() if address.ipv4_mapped else address.packed[:8]
        except ValueError:
            pass
    return text.encode()
