"""What worker processes log is said by the process that started them: as the story on its terminal, or in its own log.

Prefect gives each worker of a pool a console of its own, so that the lines of several workers would run through the live line of
the terminal. The Prefect UI gets the records of a worker in any case.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from multiprocessing.queues import Queue
from queue import Empty

from prefect.logging.configuration import ensure_logging_setup
from prefect.logging.handlers import PrefectConsoleHandler

__all__ = ["hearing_workers", "send_records"]

POLL_S = 0.2
LAST_S = 5.0  # a worker that was killed in the middle of a record would be waited for without end


@contextmanager
def hearing_workers() -> Iterator[Queue[logging.LogRecord]]:
    """Yield a queue for `send_records`. This process handles what comes through it as its own console handles its own records."""
    records: Queue[logging.LogRecord] = multiprocessing.get_context("spawn").Queue()
    over = threading.Event()
    listener = threading.Thread(target=_handle, args=(records, over), name="worker logs", daemon=True)
    listener.start()
    try:
        yield records
    finally:
        over.set()
        listener.join(LAST_S)


def send_records(records: Queue[logging.LogRecord]) -> None:
    """Send the log records of this worker to the process that started it, in place of printing them."""
    ensure_logging_setup()
    records.cancel_join_thread()  # a worker ends though nobody reads its last records
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, PrefectConsoleHandler)]:
        root.removeHandler(handler)
    root.addHandler(QueueHandler(records))


def _handle(records: Queue[logging.LogRecord], over: threading.Event) -> None:
    while True:
        try:
            record = records.get(timeout=POLL_S)
        except Empty:
            if over.is_set():
                return
            continue
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
