"""The log of a worker: every line is JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Any, TextIO

__all__ = ["RequestLog", "configure_logging"]

EXTRA = ("reason", "version", "promotion")  # fields of a record that are written too
FLUSH_S = 0.25
LINES_AT_ONCE = 100_000


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

    Lines do not pass through `logging`, whose queue handler takes three times as long per line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: deque[str] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def write(self, line: dict[str, Any]) -> None:
        self._lines.append(json.dumps(line, separators=(",", ":")))

    def close(self) -> None:
        """Write the lines that are still queued."""
        self._stop.set()
        self._thread.join()
        self._flush()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self._flush()

    def _flush(self) -> None:
        lines: list[str] = []
        with suppress(IndexError):  # another thread keeps appending
            while len(lines) < LINES_AT_ONCE:
                lines.append(self._lines.popleft())
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
