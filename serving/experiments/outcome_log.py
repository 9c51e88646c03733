"""The outcome log: what clients report that users did. An outcome that was accepted is on the disk.

Nothing is looked up when an outcome arrives: a repeated one is written again, by whichever worker gets it, and readers count each key
once. So a client may send its outcomes again after any failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from configs.errors import OverloadedError
from configs.serving import OutcomeKind, OutcomeSettings
from infra.storage import Store
from serving.background import BackgroundLoop, ignored
from serving.experiments.log_files import LogFiles

__all__ = ["AREA", "Outcome", "OutcomeLog", "id_key"]

logger = logging.getLogger(__name__)
AREA = "outcomes"
GATHER_S = 1.0  # longest wait for outcomes before the writer looks whether its file is complete
AT_ONCE = 1000  # requests written with one call
UPLOADS_S = 60.0
CLOSE_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """What a client reported that a user did."""

    user_id: int | str
    kind: OutcomeKind
    received: int  # UTC seconds on the server's clock
    time: int | None = None  # UTC seconds; None if it happened when it was received
    item_id: int | str | None = None
    value: float = 1.0
    request_id: str | None = None
    outcome_id: str | None = None

    @property
    def key(self) -> str:
        """Equal for repeated reports: a digest of the user and the id, or else of the content as the client sent it."""
        if self.outcome_id is not None:
            return id_key(self.user_id, self.outcome_id)
        return _key("content", self.user_id, self.kind, self.item_id, self.time, self.value, self.request_id)

    def line(self) -> bytes:
        """Return the line of the log. Its names are those of the columns of an outcomes file."""
        said = asdict(self) | {"timestamp": self.received if self.time is None else self.time, "key": self.key}
        del said["time"]
        return json.dumps({name: each for name, each in said.items() if each is not None}, separators=(",", ":")).encode() + b"\n"


def id_key(user_id: int | str, outcome_id: str) -> str:
    """Return the key of a user's outcome with an id."""
    return _key("id", user_id, outcome_id)


def _key(kind: str, user_id: int | str, *said: object) -> str:
    return hashlib.sha256(json.dumps([kind, str(user_id), *said]).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class _Waiting:
    """The outcomes of one request, which waits until they are on the disk."""

    lines: bytes
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]

    def answer(self, error: Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: Exception | None) -> None:
        if self.done.done():  # the client has disconnected
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class OutcomeLog(LogFiles):
    """Writes outcomes to the disk before their requests are answered. Requests that arrive together share one write."""

    def __init__(
        self, settings: OutcomeSettings, store: Store | None = None, on_failure: Callable[[str], None] = ignored
    ) -> None:
        """Create the log. Nothing is written before `start`.

        Args:
            settings: The settings of the log.
            store: Gets each complete file, as `outcomes/<day>/<file>`.
            on_failure: Is called with the name of a thread whose step failed.
        """
        super().__init__(settings.folder, AREA, rotate_bytes=settings.rotate_bytes, rotate_s=settings.rotate_s)
        self._store, self._on_failure = store, on_failure
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(settings.queue)
        self._failing = self._closed = False
        self._writing = BackgroundLoop("outcomes", self._write, 0.0, last=self._write_last, on_failure=on_failure)
        self._uploading = BackgroundLoop("outcome-files", self._clear, UPLOADS_S, last=self._clear, on_failure=on_failure)

    def start(self) -> None:
        self._writing.start()
        self._uploading.start()

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        """Return once the outcomes are on the disk.

        Raises:
            OverloadedError: If too many requests wait, or if the disk fails. A client may send the outcomes again.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(b"".join([each.line() for each in outcomes]), loop, loop.create_future())
        if self._closed:
            raise OverloadedError("The server is stopping; send the outcomes again in a moment.")
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise OverloadedError("Too many outcomes wait for the disk; send them again in a moment.") from None
        await waiting.done

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is queued, finish the file and upload it. Give up after `timeout_s`."""
        until, self._closed = time.monotonic() + timeout_s, True
        self._writing.stop()
        with suppress(queue.Full):
            self._queue.put_nowait(None)  # the writer may be waiting for outcomes
        self._writing.close(timeout_s)
        self._uploading.close(max(until - time.monotonic(), 0.1))

    def _write(self) -> bool:
        batch = self._gather()
        try:
            self._write_lines(b"".join([each.lines for each in batch]), durably=True)
        except OSError as error:
            if not self._failing:
                logger.error("outcomes cannot be written and are refused: %s", error)
            self._failing = True
            self._on_failure(self._writing.name)
            for each in batch:
                each.answer(OverloadedError("The disk does not take outcomes now; send them again in a moment."))
            return True  # a failed step would let the next requests wait
        if batch:
            self._failing = False
        for each in batch:
            each.answer(None)
        if self._file is not None and self._due():
            self._finish()
            self._uploading.wake()
        return True

    def _gather(self) -> list[_Waiting]:
        """Return the requests that wait, once there is one."""
        try:
            found = [self._queue.get(timeout=GATHER_S)]
        except queue.Empty:
            return []
        with suppress(queue.Empty):
            while len(found) < AT_ONCE:
                found.append(self._queue.get_nowait())
        return [each for each in found if each is not None]

    def _write_last(self) -> None:
        while not self._queue.empty():
            self._write()
        if self._file is not None:
            self._finish()

    def _clear(self) -> bool:
        return self._clear_folder(self._store)
