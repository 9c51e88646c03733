"""The erased users that a server knows of. They win over whatever is still stored of them, in memory, in Redis or in a dataset."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from configs.errors import RecsysError
from infra.erasures import Erasure, erase_user, erased_users
from infra.storage import Store
from serving.background import BackgroundLoop, ignored

__all__ = ["LOOK_S", "Erasures"]

logger = logging.getLogger(__name__)
LOOK_S = 10.0  # seconds between two looks at the store
AGAIN_S = 3600.0  # seconds after which the data of all erased users is deleted again: a backup of Redis may have brought it back
AT_ONCE = 64  # users whose data is deleted with one call


class Erasures:
    """Follows the erased users of the store. Until the first look has succeeded, everybody counts as erased."""

    def __init__(self, store: Store, *, on_failure: Callable[[str], None] = ignored) -> None:
        self._store = store
        self._users: frozenset[int] | None = None
        self._due: deque[int] = deque()  # users whose data must still be deleted
        self._swept = time.monotonic()
        self._said = ""
        self._loop = BackgroundLoop("erasures", self.look, LOOK_S, on_failure=on_failure)

    @property
    def known(self) -> bool:
        return self._users is not None

    def __contains__(self, user: object) -> bool:
        return self._users is None or user in self._users

    def start(self, wait_s: float) -> None:
        """Look until the store answers, for at most `wait_s` seconds, and follow it from then on."""
        until = time.monotonic() + wait_s
        while not self.look() and time.monotonic() < until:
            time.sleep(min(1.0, wait_s))
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def close(self, timeout_s: float) -> None:
        self._loop.close(timeout_s)

    def look(self) -> bool:
        """Read the list of erased users once. Return False if that failed; those who are known stay erased."""
        try:
            found = erased_users(self._store)
        except (RecsysError, OSError) as error:
            if str(error) != self._said:
                logger.warning("the erased users cannot be read", extra={"reason": str(error)})
            self._said = str(error)
            return False
        self._said, before = "", self._users or frozenset()
        self._users = before | found  # nobody comes back, also if a listing is incomplete
        self._due.extend(found - before)
        return True

    def erase(self, user: int, *, reason: str, by: str) -> Erasure:
        """Erase a user for good. Returns once the store has the record.

        Raises:
            StoreError: If the store does not take it.
        """
        erasure = erase_user(self._store, user, reason=reason, by=by, now=datetime.now(UTC))
        self._users = (self._users or frozenset()) | {user} if self.known else None
        self._due.append(user)
        return erasure

    def sweep(self) -> None:
        """Let the data of all erased users be deleted again."""
        self._swept = time.monotonic()
        self._due.extend(self._users or ())

    def delete_with(self, delete: Callable[[list[int]], bool]) -> None:
        """Delete the data of some users. What `delete` could not delete everywhere is tried again."""
        if time.monotonic() - self._swept > AGAIN_S:
            self.sweep()
        users = [self._due.popleft() for _ in range(min(AT_ONCE, len(self._due)))]
        if users and not delete(users):
            self._due.extend(users)
