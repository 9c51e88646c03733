"""Claims, which are creates that decide between runs. One of them wins, even on a server that accepts two creates of a key.

A create that was accepted can still be overwritten by another one that the server accepted at the same time. To read the object
back at once does not show this, because the other write may arrive later. Therefore each claim is announced before its create,
under a key of its own, and the announcement is removed after the create was answered. A claim that was accepted waits until no
other claim is announced, and reads the object then. Another create can only overwrite it if it began before the object existed.
So its announcement is still there, or its write has arrived. This needs listings that show each object once it is written.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from configs.errors import StoreError, StoreUnavailableError
from infra.digests import sha256_of
from infra.storage.base import TEMPORARY
from infra.storage.s3_creates import ContestedError, Creates

__all__ = ["Claim"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


class Claim:
    """One claim of a key."""

    def __init__(self, client: Any, creates: Creates, key: str, patience_s: float) -> None:
        """Make a claim.

        Args:
            client: The client of the bucket.
            creates: The creates of the bucket.
            key: The key that is claimed.
            patience_s: Time for which other claims are waited for. An older announcement belongs to a killed run.
        """
        self._client, self._creates, self._key, self._patience_s = client, creates, key, patience_s
        self._prefix = f"{TEMPORARY}/claims/{sha256_of(key.encode())[:32]}/"
        self._own = secrets.token_hex(16)

    def wins(self, create: Callable[[], str]) -> bool:
        """Create the object.

        Args:
            create: Creates it, and returns the value that identifies this write.

        Returns:
            Whether the object is the one that was created. If not, another create that was accepted has replaced it.

        Raises:
            AlreadyExistsError: The object existed.
        """
        self._creates.create(self._prefix + self._own, io.BytesIO(), conditional=False)
        try:
            writer = create()
        except StoreUnavailableError as error:
            if isinstance(error, ContestedError):
                self._withdraw()
            raise  # otherwise the write may still arrive, so other claims must wait for it
        except BaseException:
            self._withdraw()
            raise
        try:
            others = self._others_of_now()
        finally:
            self._withdraw()  # before the wait: two claims must not wait for each other
        if others:
            self._listed_until(lambda found: others.isdisjoint(found))
        return self._creates.stored_writer(self._key) == writer

    def _others_of_now(self) -> set[str]:
        """Return the other announcements of this time, by the server's clock."""
        announced = self._listed_until(lambda found: self._own in found)
        own = announced.pop(self._own, None)
        patience = timedelta(seconds=self._patience_s)
        return {name for name, when in announced.items() if own is None or when >= own - patience}

    def _listed_until(self, done: Callable[[dict[str, datetime]], bool]) -> dict[str, datetime]:
        """List the announcements until they are as expected, or for the patience of this claim."""
        end, pause = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while not done(found := self._announced()) and time.monotonic() < end:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        return found

    def _announced(self) -> dict[str, datetime]:
        name = self._creates.name(self._prefix)
        with self._creates.asking(self._prefix):
            found = self._client.list_objects_v2(Bucket=self._creates.bucket, Prefix=name)
        return {entry["Key"].removeprefix(name): entry["LastModified"] for entry in found.get("Contents", ())}

    def _withdraw(self) -> None:
        with suppress(StoreError):  # an announcement that stays is ignored when it is old
            self._creates.delete(self._prefix + self._own)
