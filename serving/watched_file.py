"""A settings file that is reloaded when it changes, while requests are being answered."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from configs.errors import RecsysError, SettingsError
from configs.loading import load_settings

__all__ = ["WatchedFile"]

Loaded = TypeVar("Loaded", bound=BaseModel)
Made = TypeVar("Made")
logger = logging.getLogger(__name__)


class WatchedFile(Generic[Loaded, Made]):
    """An object built from a YAML file, rebuilt when the file changes.

    `current()` checks the clock on every call, and the file at most every `every_s` seconds. If the file becomes invalid, it is
    refused: the last good object stays, `fault` holds the reason until the file is fixed, and a warning is logged once.
    Thread-safe.
    """

    def __init__(
        self, path: Path, model: type[Loaded], make: Callable[[Loaded], Made], *, every_s: float = 1.0, optional: bool = False
    ) -> None:
        """Read the file for the first time.

        Args:
            path: The YAML file.
            model: Its settings.
            make: Builds the object from the settings.
            every_s: Least seconds between two checks of the file.
            optional: Use the defaults if the file does not exist.

        Raises:
            SettingsError: If the file is missing or invalid; names the file, the key and the value.
        """
        self.path = path
        self.fault: str | None = None
        self.reloads = 0
        self._model, self._make, self._every_s, self._optional = model, make, every_s, optional
        self._lock = threading.Lock()
        self._seen = self._content()
        self._made = self._read(self._seen)
        self._next_look = time.monotonic() + every_s

    def current(self) -> Made:
        """Return the object built from the newest valid content."""
        if time.monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._next_look = time.monotonic() + self._every_s
                self._look()
            finally:
                self._lock.release()
        return self._made

    def reload(self) -> Made:
        """Check the file now, and return the object built from the newest valid content."""
        with self._lock:
            self._look()
        return self._made

    def _look(self) -> None:
        try:
            content = self._content()
            # Compare the content, not the modification time, to notice a file that is written twice within a clock tick.
            if self.fault is None and content == self._seen:
                return
            made = self._read(content)
        except RecsysError as error:
            if self.fault != str(error):
                logger.warning("%s was refused and its previous content stays active: %s", self.path, error)
            self.fault = str(error)
            return
        self._made, self._seen, self.fault = made, content, None
        self.reloads += 1
        logger.info("%s was reloaded", self.path)

    def _content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError as error:
            if self._optional:
                return None
            raise SettingsError(f"There is no file {self.path}: create it, or remove it from the settings.") from error
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read: {error.strerror}.") from error

    def _read(self, content: bytes | None) -> Made:
        return self._make(self._model() if content is None else load_settings(self._model, str(self.path)))
