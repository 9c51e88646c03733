"""Processes that end together with the process that started them, however that one ends: with its work, by a signal, or killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

__all__ = ["end_at_eof", "end_with_parent"]

GRACE_S = 5.0


def end_with_parent() -> None:
    """End this process of multiprocessing as soon as its parent has ended. In any other process, do nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        _end_after(parent.join)


def end_at_eof(descriptor: int) -> None:
    """End this process as soon as nobody holds the other end of the pipe at `descriptor`."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass

    _end_after(wait)


def _end_after(wait: Callable[[], object]) -> None:
    def watch() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)  # an orderly end first
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
