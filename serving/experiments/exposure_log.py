"""The exposure log: JSON lines, one per exposure.

Each process writes its own file, `<start>-<host>-<process>-<number>.jsonl.open`, and drops `.open` from the name once the file is
complete. Readers accept both, and skip the last line of an open file if it is incomplete. A writer holds a lock on its open file.
If the lock is free, the writer was killed, and another process finishes the file.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from configs.errors import AlreadyExistsError, StoreError
from configs.serving import ExposureSettings
from infra.storage import Store
from serving.experiments.exposures import OPEN, Exposure

__all__ = ["ExposureLog"]

logger = logging.getLogger(__name__)


class ExposureLog:
    """Writes exposures without making a request wait: a separate thread writes to the disk.

    Exposures that cannot be queued or written are counted in `dropped`; each series of failures is logged once. With `store`,
    each complete file is uploaded to `exposures/<day>/<file>`. If an upload fails, the file stays in the folder and is retried at
    the next rotation. Files that killed processes left open are finished at startup and at each rotation.
    """

    def __init__(self, settings: ExposureSettings, store: Store | None = None) -> None:
        self.written = 0
        self.dropped = 0
        self._settings, self._store = settings, store
        self._queue: queue.Queue[Exposure | threading.Event | None] = queue.Queue(settings.queue)
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._bytes, self._opened, self._number = 0, 0.0, 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)
        self._thread.start()

    def write(self, exposure: Exposure) -> None:
        """Queue one exposure. Never blocks and never raises."""
        try:
            self._queue.put_nowait(exposure)
        except queue.Full:
            self._drop(1, "they arrive faster than the disk can write them")

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything queued so far is in the file. Return False if that takes longer than `timeout_s`."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write all queued exposures and finish the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self._adopt()
        while True:
            batch, waiting, end = self._gather()
            if batch:
                self._append(batch)
            for event in waiting:
                event.set()
            if self._file is not None and (end or self._due()):
                self._finish()
            if end:
                return

    def _gather(self) -> tuple[list[Exposure], list[threading.Event], bool]:
        """Return the exposures that arrive within flush_s, the flush events to set after writing, and whether to stop."""
        batch: list[Exposure] = []
        waiting: list[threading.Event] = []
        until = time.monotonic() + self._settings.flush_s
        while (left := until - time.monotonic()) > 0 and len(batch) < 10_000:
            try:
                found = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if found is None:
                return batch, waiting, True
            if isinstance(found, threading.Event):
                waiting.append(found)
                break
            batch.append(found)
        return batch, waiting, False

    def _append(self, batch: list[Exposure]) -> None:
        lines = b"".join(json.dumps(_plain(each), separators=(",", ":")).encode() + b"\n" for each in batch)
        try:
            if self._file is None:
                self._begin()
            assert self._file is not None
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            self._drop(len(batch), str(error))
            self._abandon()
            return
        self._bytes += len(lines)
        self.written += len(batch)
        self._failing = False

    def _begin(self) -> None:
        folder = self._settings.folder
        folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{socket.gethostname()}-{os.getpid()}-{self._number}.jsonl"
        self._path = folder / (name + OPEN)
        self._file = self._path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        if not self._path.exists():  # before it was locked, another process took it for an abandoned file
            self._begin()
        self._bytes, self._opened = 0, time.monotonic()

    def _due(self) -> bool:
        return self._bytes >= self._settings.rotate_bytes or time.monotonic() - self._opened >= self._settings.rotate_s

    def _finish(self) -> None:
        assert self._file is not None and self._path is not None
        try:
            self._path.rename(self._path.with_name(self._path.name.removesuffix(OPEN)))
            self._file.close()
        except OSError as error:
            logger.warning("%s could not be finished and stays open; readers still accept it: %s", self._path, error)
        self._file = self._path = None
        self._adopt()
        if self._store is not None:
            self._send(self._store)

    def _adopt(self) -> None:
        """Finish the open files whose writers have ended."""
        for path in sorted(self._settings.folder.glob(f"*.jsonl{OPEN}")):
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

    def _abandon(self) -> None:
        """Close a file that cannot be written to. The next batch starts a new file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                logger.warning("%s could not be closed: %s", self._path, error)
        self._file = self._path = None

    def _send(self, store: Store) -> None:
        for path in sorted(self._settings.folder.glob("*.jsonl")):
            try:
                with suppress(AlreadyExistsError):  # an earlier upload succeeded, but its response was lost
                    store.put_new(f"exposures/{path.name[:8]}/{path.name}", path)
                path.unlink()
            except (StoreError, OSError) as error:
                if not path.exists():  # another process has uploaded it
                    continue
                logger.warning("%s could not be uploaded to the store and stays in its folder: %s", path, error)
                return

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        if not self._failing:
            logger.error("exposures are being lost: %s", reason)
        self._failing = True


def _plain(exposure: Exposure) -> dict[str, Any]:
    """Return the exposure as JSON-serializable data, without empty fields."""
    said = {key: value for key, value in asdict(exposure).items() if value is not None and value is not False}
    return said | {"items": [int(item) for item in exposure.items]}
