"""The log of exposures: JSON lines that say who was shown what, by which version, in which arm.

A process writes a file of its own, `<start>-<host>-<process>-<number>.jsonl.open`, which loses `.open` when it is whole. A reader
takes both and leaves out the last line of an open file where it has no end yet. Its writer holds the file's lock, so that of a
writer that was killed is known by its lock being free, and another one finishes it.
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from configs.errors import AlreadyExistsError, SourceError, StoreError
from configs.experiments import ExposureSettings
from infra.stores import Store

__all__ = ["Exposure", "ExposureLog", "read_exposures", "stored_exposures"]

OPEN = ".open"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exposure:
    """One answer: the list that a user was shown, or that a shadow version would have shown."""

    time: int  # UTC seconds
    user: int | str
    request: str  # id of the request, as the answer's header has it
    version: str  # of the model that made the list; never `champion`
    items: Sequence[int]  # raw ids, best first
    experiment: str | None = None
    arm: str | None = None
    revision: str | None = None
    shadow: bool = False


EXPOSURE = TypeAdapter(Exposure)


class ExposureLog:
    """Writes exposures without making a request wait: a thread of its own does the disk's work.

    What cannot be queued or written is counted in `dropped` and told of in the log once per run of failures. With `store`, each
    whole file is put there under `exposures/<day>/<file>`; one that the store does not take stays in the folder and is tried again
    at the next rotation. Files that killed processes have left open are finished at the start and at each rotation.
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
        """Queue one exposure; never waits and never raises."""
        try:
            self._queue.put_nowait(exposure)
        except queue.Full:
            self._drop(1, "more of them came than the disk takes")

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was queued before is in the file; False where that took longer."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued and finish the file."""
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
        """What has come within flush_s of the first; what waits for it; whether it is the end."""
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
        if not self._path.exists():  # somebody took it for one that was left, before it was locked
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
            logger.warning("%s could not be finished and is read as it is: %s", self._path, error)
        self._file = self._path = None
        self._adopt()
        if self._store is not None:
            self._send(self._store)

    def _adopt(self) -> None:
        """Finish the files whose writers are no more."""
        for path in sorted(self._settings.folder.glob(f"*.jsonl{OPEN}")):
            try:
                with path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    whole = file.read().rfind(b"\n") + 1
                    if whole:
                        file.truncate(whole)  # a line that was killed in the middle is none
                        path.rename(path.with_name(path.name.removesuffix(OPEN)))
                    else:
                        path.unlink()
            except (BlockingIOError, FileNotFoundError):
                continue  # its writer is at work, or another one was faster
            except OSError as error:
                logger.warning("%s is left as it is: %s", path, error)

    def _abandon(self) -> None:
        """Leave a file that cannot be written; the next batch begins another."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                logger.warning("%s could not be closed: %s", self._path, error)
        self._file = self._path = None

    def _send(self, store: Store) -> None:
        for path in sorted(self._settings.folder.glob("*.jsonl")):
            try:
                with suppress(AlreadyExistsError):  # an earlier try arrived and was not told so
                    store.put_new(f"exposures/{path.name[:8]}/{path.name}", path)
                path.unlink()
            except (StoreError, OSError) as error:
                if not path.exists():  # another process has sent it
                    continue
                logger.warning("%s stays in its folder, the store did not take it: %s", path, error)
                return

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        if not self._failing:
            logger.error("exposures are being lost: %s", reason)
        self._failing = True


def read_exposures(path: Path) -> Iterator[Exposure]:
    """Exposures of a file, or of every file of a folder and the folders in it.

    Raises SourceError naming the file and line that is no exposure, or the path where there is none.
    """
    files = sorted(p for p in path.rglob("*") if p.name.endswith((".jsonl", ".jsonl" + OPEN))) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise SourceError(f"{path} holds no exposures: give a .jsonl file of the exposure log, or a folder with such files.")
    for file in files:
        with file.open("rb") as lines:
            yield from _parsed(lines, str(file))


def stored_exposures(store: Store) -> Iterator[Exposure]:
    """Exposures that logs have put into the store. Raises SourceError where there are none, or at a line that is none."""
    keys = [key for key in store.list("exposures/") if key.endswith(".jsonl")]
    if not keys:
        raise SourceError(f"{store.uri('exposures')} holds no exposures: give the folder of the log with --exposures.")
    for key in keys:
        yield from _parsed(store.get(key).splitlines(keepends=True), store.uri(key))


def _parsed(lines: Iterable[bytes], name: str) -> Iterator[Exposure]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n") and name.endswith(OPEN):
            continue  # the writer is in the middle of it, or was killed there
        try:
            yield EXPOSURE.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise SourceError(
                f"{name}, line {number} is no exposure ({where}: {first['msg']}): mend or remove the line."
            ) from error


def _plain(exposure: Exposure) -> dict[str, Any]:
    """As JSON takes it, without what is not said."""
    said = {key: value for key, value in asdict(exposure).items() if value is not None and value is not False}
    return said | {"items": [int(item) for item in exposure.items]}
