"""The exposure log: JSON lines, one per exposure, written without making a request wait."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from configs.serving import ExposureSettings
from infra.storage import Store
from serving.background import BackgroundLoop, ignored
from serving.experiments.exposures import Exposure
from serving.experiments.log_files import LogFiles

__all__ = ["ExposureLog"]

logger = logging.getLogger(__name__)
AT_ONCE = 10_000  # exposures written with one call
UPLOADS_S = 60.0  # least seconds between two looks for complete files
CLOSE_S = 5.0


class ExposureLog(LogFiles):
    """Writes exposures without making a request wait: one thread writes to the disk, and another one uploads complete files.

    Exposures that cannot be written wait in memory, up to `queue`. Beyond it they are dropped and counted in `dropped`; each series of
    failures is logged once. With `store`, each complete file is uploaded to `exposures/<day>/<file>`. If an upload fails, the file
    stays in the folder and is retried. Files that killed processes left open are finished, too. `on_failure` is called with the name
    of a thread whose step failed.
    """

    def __init__(
        self, settings: ExposureSettings, store: Store | None = None, on_failure: Callable[[str], None] = ignored
    ) -> None:
        super().__init__(settings.folder, "exposures", rotate_bytes=settings.rotate_bytes, rotate_s=settings.rotate_s)
        self.written = 0
        self.dropped = 0
        self._settings, self._store = settings, store
        self._queue: queue.Queue[Exposure | _Flush | None] = queue.Queue(settings.queue)
        self._batch: list[bytes] = []  # lines of exposures that were taken from the queue, and are not written yet
        self._failing = self._losing = False
        self._writing = BackgroundLoop("exposures", self._write, 0.0, last=self._write_last, on_failure=on_failure)
        self._uploading = BackgroundLoop("exposure-files", self._clear, UPLOADS_S, last=self._clear, on_failure=on_failure)
        self._writing.start()
        self._uploading.start()

    def write(self, exposure: Exposure) -> None:
        """Queue one exposure. Never blocks and never raises."""
        try:
            self._queue.put_nowait(exposure)
        except queue.Full:
            self._drop(1, "they arrive faster than the disk can write them")

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything queued so far is in the file. Return False if it cannot be written, or takes longer."""
        until, asked = time.monotonic() + timeout_s, _Flush()
        try:
            self._queue.put(asked, timeout=timeout_s)
        except queue.Full:
            return False
        self._writing.wake()
        return asked.done.wait(max(until - time.monotonic(), 0)) and asked.written

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write all queued exposures, finish the file and upload it. Give up after `timeout_s`."""
        until = time.monotonic() + timeout_s
        self._writing.stop()
        with suppress(queue.Full):
            self._queue.put_nowait(None)  # the writer may be waiting for an exposure
        if not self._writing.close(timeout_s):
            logger.error("the disk does not answer: %d exposures are lost", len(self._batch) + self._queue.qsize())
        self._uploading.close(max(until - time.monotonic(), 0.1))

    def _write(self) -> bool:
        flushes = [] if self._batch else self._gather()
        written = self._append()
        if not written:
            with self._queue.mutex:  # nobody waits for a disk that fails
                flushes += [each for each in self._queue.queue if isinstance(each, _Flush)]
        for asked in flushes:
            asked.written = written
            asked.done.set()
        if written and self._file is not None and self._due():
            self._finish()
            self._uploading.wake()
        return written

    def _clear(self) -> bool:
        return self._clear_folder(self._store)

    def _write_last(self) -> None:
        """Write everything that is still queued, and finish the file."""
        flushes = [asked for asked in self._taken(self._queue.qsize()) if asked is not None]
        if not self._append() and self._batch:
            self._drop(len(self._batch), "the log is closed and they cannot be written")
            self._batch = []
        for asked in flushes:
            asked.written = not self._failing
            asked.done.set()
        if self._file is not None:
            self._finish()

    def _gather(self) -> list[_Flush]:
        """Take the exposures that arrive within flush_s. Return the flushes to answer after writing."""
        until = time.monotonic() + self._settings.flush_s
        while (left := until - time.monotonic()) > 0 and len(self._batch) < AT_ONCE:
            try:
                found = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if found is None:
                break
            if isinstance(found, _Flush):
                return [found]
            self._take(found)
        return []

    def _taken(self, count: int) -> list[_Flush | None]:
        """Take up to `count` entries from the queue without waiting. Return those that are not exposures."""
        others: list[_Flush | None] = []
        with suppress(queue.Empty):
            for _ in range(count):
                found = self._queue.get_nowait()
                if isinstance(found, Exposure):
                    self._take(found)
                else:
                    others.append(found)
        return others

    def _take(self, exposure: Exposure) -> None:
        try:
            self._batch.append(json.dumps(_plain(exposure), separators=(",", ":")).encode() + b"\n")
        except (TypeError, ValueError) as error:  # one exposure that is not JSON must not keep the others from the file
            self._drop(1, f"one of them cannot be written as JSON ({error})")

    def _append(self) -> bool:
        """Write the batch. If the disk fails, keep it for the next attempt, and return False."""
        try:
            self._write_lines(b"".join(self._batch))
        except OSError as error:
            if not self._failing:
                logger.error("exposures cannot be written and wait in memory: %s", error)
            self._failing = True
            return False
        self.written += len(self._batch)
        self._batch = []
        self._failing = self._losing = False
        return True

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        if not self._losing:
            logger.error("exposures are being lost: %s", reason)
        self._losing = True


class _Flush:
    """A request to write what was queued before it."""

    def __init__(self) -> None:
        self.done, self.written = threading.Event(), False


def _plain(exposure: Exposure) -> dict[str, Any]:
    """Return the exposure as JSON-serializable data, without empty fields."""
    said = {key: value for key, value in asdict(exposure).items() if value is not None and value is not False and value != ()}
    if exposure.others:
        said["others"] = [(_id(item), chance) for item, chance in exposure.others]
    return said | {"items": [_id(item) for item in exposure.items]}


def _id(item: int | str) -> int | str:
    return item if isinstance(item, str) else int(item)
