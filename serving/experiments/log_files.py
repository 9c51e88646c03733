"""The files of a log: JSON lines that each process writes to a folder, and that go to the store once a file is complete.

Each process writes its own file, `<start>-<host>-<process>-<number>.jsonl.open`, and drops `.open` from the name once the file is
complete. Readers accept both, and skip the last line of an open file if it is incomplete. A writer holds a lock on its open file.
If the lock is free, the writer was killed, and another process finishes the file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from configs.errors import AlreadyExistsError, SourceError, StoreError
from infra.storage import Store

__all__ = ["OPEN", "LogFiles", "files_in", "opened"]

logger = logging.getLogger(__name__)
OPEN = ".open"  # ends the name of a file that is still being written


class LogFiles:
    """Writes lines to the files of one process, and uploads complete files of any process to `<area>/<day>/<file>`.

    One thread may write while another one calls `_clear_folder`.
    """

    def __init__(self, folder: Path, area: str, *, rotate_bytes: int, rotate_s: int) -> None:
        """Prepare a log without touching the folder.

        Args:
            folder: Folder of the files.
            area: First part of the keys in the store.
            rotate_bytes: Size in bytes from which a file is complete.
            rotate_s: Age in seconds from which a file is complete.
        """
        self._folder, self._area = folder, area
        self._rotate_bytes, self._rotate_s = rotate_bytes, rotate_s
        self._file: FileIO | None = None
        self._path: Path | None = None
        self._bytes, self._opened, self._number = 0, 0.0, 0

    def _write_lines(self, lines: bytes, *, durably: bool = False) -> None:
        """Write whole lines, or none of them. `durably`: they are on the disk when the call returns.

        Raises:
            OSError: If the disk fails. What was written is taken back.
        """
        if not lines:
            return
        try:
            if self._file is None:
                self._begin()
            assert self._file is not None
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) or 0 :]
            if durably:
                os.fdatasync(self._file.fileno())
        except OSError:
            self._take_back()
            raise
        self._bytes += len(lines)

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            self._number += 1
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{socket.gethostname()}-{os.getpid()}-{self._number}.jsonl"
            self._path = self._folder / (name + OPEN)
            self._file = FileIO(self._path, "xb")  # without a buffer, which would keep what could not be written
            self._bytes, self._opened = 0, time.monotonic()
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if self._path.exists():
                return
            self._let_go()  # before it was locked, another process took it for an abandoned file

    def _due(self) -> bool:
        return self._bytes >= self._rotate_bytes or time.monotonic() - self._opened >= self._rotate_s

    def _finish(self) -> None:
        assert self._file is not None and self._path is not None
        try:
            self._path.rename(self._path.with_name(self._path.name.removesuffix(OPEN)))
        except OSError as error:
            logger.warning("%s could not be finished and stays open; readers still accept it: %s", self._path, error)
        self._let_go()

    def _take_back(self) -> None:
        """Remove the lines that a failed write left behind. A file without any line is removed, so a full disk leaves none."""
        if self._file is None or self._path is None:
            return
        try:
            if self._bytes:
                self._file.truncate(self._bytes)
                self._file.seek(self._bytes)
                return
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s is left behind: %s", self._path, error)
        self._let_go()

    def _let_go(self) -> None:
        """Close the file. The next lines start a new one."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                logger.warning("%s could not be closed: %s", self._path, error)
        self._file = self._path = None

    def _clear_folder(self, store: Store | None) -> bool:
        """Finish the files whose writers have ended, and upload the complete ones. Return False if one stays in the folder."""
        self._adopt()
        return store is None or self._send(store)

    def _adopt(self) -> None:
        for path in sorted(self._folder.glob(f"*.jsonl{OPEN}")):
            try:
                with path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    whole = file.read().rfind(b"\n") + 1
                    if whole:
                        file.truncate(whole)  # remove a last line that was cut off
                        path.rename(path.with_name(path.name.removesuffix(OPEN)))
                    else:
                        path.unlink()
            except (BlockingIOError, FileNotFoundError):
                continue  # its writer is still running, or another process was faster
            except OSError as error:
                logger.warning("%s was left behind by its writer and could not be finished: %s", path, error)

    def _send(self, store: Store) -> bool:
        for path in sorted(self._folder.glob("*.jsonl")):
            try:
                with suppress(AlreadyExistsError):  # an earlier upload succeeded, but its response was lost
                    store.put_new(f"{self._area}/{path.name[:8]}/{path.name}", path)
                path.unlink()
            except (StoreError, OSError) as error:
                if not path.exists():  # another process has uploaded it
                    continue
                logger.warning("%s could not be uploaded to the store and stays in its folder: %s", path, error)
                return False
        return True


def files_in(folder: Path) -> list[Path]:
    """Return the files of a log's folder and its subfolders, complete and open ones."""
    return sorted(path for path in folder.rglob("*") if path.name.endswith((".jsonl", ".jsonl" + OPEN)))


def opened(file: Path, what: str) -> bytes:
    """Return the content of a file of a log. Its writer may have finished and renamed it since the folder was listed.

    Raises:
        SourceError: If the file left the folder. `what` names its lines and the option that reads the folder.
    """
    for name in (file, file.with_name(file.name.removesuffix(OPEN))):
        try:
            return name.read_bytes()
        except FileNotFoundError:
            continue
    lines, _, option = what.partition(" ")
    raise SourceError(
        f"{file} was moved while the log was read, so its {lines} would be missing: run the command again. If it went to the "
        f"store, leave out {option} to read the log from there."
    )
