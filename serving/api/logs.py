"""The log of a worker: every line is JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from pydantic_core import to_json

from serving.background import BackgroundLoop, ignored

__all__ = ["RequestLog", "configure_logging"]

EXTRA = ("reason", "version", "promotion")  # fields of a record that are written too
FLUSH_S = 0.25
CLOSE_S = 2.0
MOST_LINES = 100_000  # of about 150 bytes
logger = logging.getLogger(__name__)


def configure_logging() -> None:
    """Write every log line to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class RequestLog:
    """Writes one line per request, in batches: one system call per line would cost as much as parsing the request.

    Lines do not pass through `logging`, whose queue handler takes three times as long per line. Lines that cannot be written, or that
    wait beyond `MOST_LINES`, are dropped and counted with `on_dropped`: requests never wait for the log.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        on_dropped: Callable[[int], None] = lambda count: None,
        on_failure: Callable[[str], None] = ignored,
    ) -> None:
        self._stream = stream or sys.stderr
        self._lines: deque[str] = deque()
        self._on_dropped = on_dropped
        self._loop = BackgroundLoop("request-log", self._flush, FLUSH_S, last=self._flush, on_failure=on_failure)
        self._loop.start()

    def write(self, line: dict[str, Any]) -> None:
        """Queue one line. Never waits."""
        if len(self._lines) >= MOST_LINES:
            self._on_dropped(1)
        else:
            text = to_json(line).decode()  # a fifth of the time of `json.dumps`, which escapes what is not ASCII
            self._lines.append(text if text.isascii() else json.dumps(line, separators=(",", ":")))

    def close(self) -> None:
        """Write the lines that are still queued. If nobody reads the stream, give up after `CLOSE_S`."""
        if not self._loop.close(CLOSE_S):
            self._on_dropped(len(self._lines))

    def _flush(self) -> bool:
        lines: list[str] = []
        with suppress(IndexError):  # another thread keeps appending
            while len(lines) < MOST_LINES:
                lines.append(self._lines.popleft())
        if not lines:
            return True
        written = False
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
            written = True
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            logger.warning("lines of the request log were dropped", extra={"reason": str(error)})
        finally:
            if not written:  # the stream may have written some of the lines: writing them again could repeat them
                self._on_dropped(len(lines))
        return written
