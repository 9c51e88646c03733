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
from configs.loading import read_settings_file, settings_in

__all__ = ["WatchedFile"]

Loaded = TypeVar("Loaded", bound=BaseModel)
Made = TypeVar("Made")
logger = logging.getLogger(__name__)
LOOKS_AT_START = 10


class WatchedFile(Generic[Loaded, Made]):
    """An object built from a YAML file, rebuilt when the file changes.

    `current()` only returns the object; `look()` reads the file and belongs in a thread of its own. A changed file is taken when two
    looks in a row read the same bytes, because its writer may be between two writes. A file that is empty or invalid is refused: the
    last good object stays, and `fault` holds the reason until the file is fixed. A warning is logged once. Thread-safe.
    """

    def __init__(
        self,
        path: Path,
        model: type[Loaded],
        make: Callable[[Loaded], Made],
        *,
        settled_s: float = 1.0,
        prepare: Callable[[Made], None] = lambda made: None,
    ) -> None:
        """Read the file for the first time.

        Args:
            path: The YAML file.
            model: Its settings.
            make: Builds the object from the settings.
            settled_s: A file that is younger than this is read a second time before it is taken at the start.
            prepare: Called with a new object before `current()` returns it. The first object is not prepared.

        Raises:
            SettingsError: If the file is missing, empty or invalid; names the file, the key and the value.
        """
        self.path = path
        self.fault: str | None = None
        self.reloads = 0
        self._model, self._make, self._prepare = model, make, prepare
        self._lock = threading.Lock()
        self._taken = _settled_content(path, settled_s)
        self._made = self._read(self._taken)
        self._last = self._taken  # content at the last look
        self._refused: tuple[bytes, str] | None = None  # refused content, and the reason

    def current(self) -> Made:
        """Return the object built from the newest valid content."""
        return self._made

    def look(self) -> bool:
        """Read the file once, and take its content if it is new, valid, and was the same at the last look.

        Returns:
            Whether the file can be used.
        """
        with self._lock:
            try:
                self._look()
            except RecsysError as error:
                self._refuse(str(error))
            except Exception as error:
                self._refuse(f"{self.path} cannot be used ({type(error).__name__}: {error}).")
                raise
            return self.fault is None

    def _look(self) -> None:
        # Compare the content, not the modification time, to notice a file that is written twice within a clock tick.
        last, self._last = self._last, b""  # a file that cannot be read now has to settle again
        content = self._last = read_settings_file(self.path)
        if content == self._taken:
            self.fault = self._refused = None
            return
        if content != last:
            return
        if self._refused is not None and content == self._refused[0]:
            self.fault = self._refused[1]
            return
        try:
            made = self._read(content)
        except RecsysError as error:
            self._refused = content, str(error)
            raise
        self._prepare(made)
        self._made, self._taken, self.fault, self._refused = made, content, None, None
        self.reloads += 1
        logger.info("%s was reloaded", self.path)

    def _refuse(self, reason: str) -> None:
        if self.fault != reason:
            logger.warning("%s was refused and its previous content stays active: %s", self.path, reason)
        self.fault = reason

    def _read(self, content: bytes) -> Made:
        if all(not line.strip() or line.lstrip().startswith(b"#") for line in content.splitlines()):
            raise SettingsError(f"{self.path} is empty. To switch off everything in it, write {{}} into it.")
        return self._make(settings_in(self._model, content, self.path))


def _settled_content(path: Path, settled_s: float) -> bytes:
    """Return the file's content once nobody is writing it."""
    content = read_settings_file(path)
    for _ in range(LOOKS_AT_START):
        try:
            if time.time() - path.stat().st_mtime >= settled_s:
                return content
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror or error}.") from error
        time.sleep(settled_s)
        before, content = content, read_settings_file(path)
        if content == before:
            return content
    raise SettingsError(f"{path} keeps changing. Start again when it is complete.")
