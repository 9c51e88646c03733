"""Tells clients apart, and limits how often each of them may ask."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import LRUCache
from starlette.types import Scope

from configs.serving import Scope as AccessScope
from configs.serving import ServingSettings
from serving.access.keys import Key, Keys, needs_key

__all__ = ["Clients", "Refusal"]

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


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int  # 401, 403 or 429
    detail: str
    wait_s: float = 0.0


class Clients:
    """The clients of a worker: by the name of their key if keys are required, or else by their address."""

    def __init__(self, settings: ServingSettings, keys: Callable[[], Keys] | None = None) -> None:
        """Tell clients apart.

        Args:
            settings: The settings of the server.
            keys: Returns the keys that are valid now. By default, those of `limits.api_keys`.
        """
        limits = settings.limits
        own = Keys(limits)
        self._keys, self._reachable = keys or (lambda: own), settings.reachable
        self._burst = limits.burst
        self._requests = None if limits.rate_per_s is None else _Rate(limits.rate_per_s, limits.burst)
        self._addresses = None if limits.address_rate_per_s is None else _Rate(limits.address_rate_per_s, limits.burst)
        self._own_rates: dict[float, _Rate] = {}
        self._wrong_keys = _Rate(WRONG_KEYS_PER_S, WRONG_KEYS_AT_ONCE)

    def refusal(self, scope: Scope, given: bytes, needed: AccessScope) -> Refusal | None:
        """Return why a request with a key is refused, or None. A request that is not refused is counted."""
        keys, address = self._keys(), _address(scope)
        key = keys.find(given)
        if key is None and needs_key(keys, reachable=self._reachable):
            wait = self._wrong_keys.wait(address)
            if wait > 0:
                return Refusal(429, f"Too many requests without a valid key; try again in {wait:.1f} s.", wait)
            return Refusal(401, "Send a valid key in the header X-API-Key")
        if key is not None:
            scope["state"]["client"] = key.name
            if not key.may(needed):
                return Refusal(403, f"The key of {key.name} lacks the scope {needed}, which this request needs.")
        return self._too_often(key, address)

    def _too_often(self, key: Key | None, address: bytes) -> Refusal | None:
        own = self._requests if key is None or key.rate_per_s is None else self._rate_of(key.rate_per_s)
        for rate, client in ((own, address if key is None else b"key " + key.name.encode()), (self._addresses, address)):
            wait = 0.0 if rate is None else rate.wait(client)
            if wait > 0 and rate is not None:
                return Refusal(429, f"More than {rate.per_s:g} requests per second; try again in {wait:.1f} s.", wait)
        return None

    def _rate_of(self, per_s: float) -> _Rate:
        """Return the limit of the clients with a rate of their own. Only as many are kept as the file of keys may name."""
        if per_s not in self._own_rates:
            current = set(self._keys().rates)
            self._own_rates = {rate: kept for rate, kept in self._own_rates.items() if rate in current}
            self._own_rates[per_s] = _Rate(per_s, self._burst)
        return self._own_rates[per_s]


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
