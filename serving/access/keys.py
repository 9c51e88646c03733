"""API keys: whose a key is, and what it may do.

Keys are long and random, so their plain SHA-256 does not reveal them, and the time of a look-up by it does not either.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

from configs.errors import SettingsError
from configs.serving import KeyFile, LimitSettings, Scope, ServingSettings
from serving.watched_file import WatchedFile

__all__ = ["Key", "Keys", "needs_key", "refuse_open", "scope_of", "watch_keys"]

ALL: frozenset[Scope] = frozenset(("read", "events", "admin"))
REPORTING = ("/v1/events", "/v1/outcomes")


@dataclass(frozen=True)
class Key:
    """A valid key."""

    name: str  # of the client
    scopes: frozenset[Scope]
    rate_per_s: float | None = None
    until: float | None = None  # UTC seconds

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


class Keys:
    """The keys of a file, and those of `limits.api_keys`. Immutable; the file is watched."""

    def __init__(self, limits: LimitSettings, file: KeyFile | None = None) -> None:
        self._known: dict[bytes, Key] = {}
        for number, given in enumerate(limits.api_keys, start=1):
            self._known[_digest(given.get_secret_value().encode())] = Key(f"api-keys-{number}", ALL)
        for key in () if file is None else file.keys:
            until = None if key.until is None else key.until.timestamp()
            self._known[bytes.fromhex(key.sha256)] = Key(key.name, frozenset(key.scopes), key.rate_per_s, until)

    def __bool__(self) -> bool:
        return bool(self._known)

    def find(self, given: bytes) -> Key | None:
        """Return the key that a client sent, if it is valid now."""
        found = self._known.get(_digest(given)) if given else None
        return None if found is None or (found.until is not None and time.time() >= found.until) else found

    @property
    def rates(self) -> Iterable[float]:
        return (key.rate_per_s for key in self._known.values() if key.rate_per_s is not None)


def watch_keys(settings: ServingSettings) -> WatchedFile[KeyFile, Keys] | None:
    """Return the watched file of keys, if there is one. If it becomes invalid, the previous keys stay valid.

    Raises:
        SettingsError: If the file is invalid; names the file, the key and the value.
    """
    path = settings.access.keys
    return None if path is None else WatchedFile(path, KeyFile, lambda file: Keys(settings.limits, file))


def scope_of(method: str, path: str) -> Scope:
    """Return what a key needs for a request. Whatever is not known to be harmless needs `admin`."""
    if path in REPORTING and method == "POST":
        return "events"
    return "read" if path.startswith("/v1/") and method in ("GET", "HEAD", "POST") else "admin"


def needs_key(keys: Keys, *, reachable: bool) -> bool:
    """Whether a request needs a key: if there are keys, and always where other machines reach the server."""
    return bool(keys) or reachable


def refuse_open(settings: ServingSettings) -> None:
    """Refuse a server without keys that others can reach.

    Raises:
        SettingsError: If there are none, or if the file of keys is invalid.
    """
    watched = watch_keys(settings)
    if settings.reachable and not (Keys(settings.limits) if watched is None else watched.current()):
        address = settings.access.published_at or settings.host
        raise SettingsError(
            f"The server at {address} would answer everybody: whoever reaches it could read and change what is known of any user. "
            "Make a key with `recsys key add NAME --keys keys.yaml` and set access.keys=keys.yaml, or listen on 127.0.0.1."
        )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
