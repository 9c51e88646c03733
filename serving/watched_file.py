"""A settings file that is read again when it changes, while requests are answered."""

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
    """What a YAML file says, made into an object of use.

    `current()` costs a look at the clock, and a look at the file no more often than every `every_s` seconds. A file that has
    become unusable is refused: the last good object stays, `fault` tells why until the file is mended, and a warning is logged
    once. Threads may share it.
    """

    def __init__(
        self, path: Path, model: type[Loaded], make: Callable[[Loaded], Made], *, every_s: float = 1.0, optional: bool = False
    ) -> None:
        """Reads the file. Raises SettingsError naming it, the key and the value; with `optional`, no file means defaults."""
        self.path = path
        self.fault: str | None = None
        self.reloads = 0
        self._model, self._make, self._every_s, self._optional = model, make, every_s, optional
        self._lock = threading.Lock()
        self._seen = self._content()
        self._made = self._read(self._seen)
        self._next_look = time.monotonic() + every_s

    def current(self) -> Made:
        """The object of the newest usable content."""
        if time.monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._next_look = time.monotonic() + self._every_s
                self._look()
            finally:
                self._lock.release()
        return self._made

    def reload(self) -> Made:
        """Look at the file now."""
        with self._lock:
            self._look()
        return self._made

    def _look(self) -> None:
        try:
            content = self._content()
            # By content and not by time: a file that is written twice within a clock tick is seen too.
            if self.fault is None and content == self._seen:
                return
            made = self._read(content)
        except RecsysError as error:
            if self.fault != str(error):
                logger.warning("%s was refused and what it said before stays in force: %s", self.path, error)
            self.fault = str(error)
            return
        self._made, self._seen, self.fault = made, content, None
        self.reloads += 1
        logger.info("%s was read anew", self.path)

    def _content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError as error:
            if self._optional:
                return None
            raise SettingsError(f"There is no file {self.path}: create it, or take it out of the settings.") from error
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read: {error.strerror}.") from error

    def _read(self, content: bytes | None) -> Made:
        return self._make(self._model() if content is None else load_settings(self._model, str(self.path)))
