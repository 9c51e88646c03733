"""A process that is killed at a random moment."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import time
from collections.abc import Callable

from tests.doubles.forks import forks

__all__ = ["killed_after", "seconds_of"]


def seconds_of(story: Callable[[], object]) -> float:
    """Return how many seconds the story takes in a separate process. Raise AssertionError if it fails."""
    process = _started(story)
    began = time.perf_counter()
    process.join()
    assert process.exitcode == 0, f"the story failed, exit status {process.exitcode}"
    return time.perf_counter() - began


def killed_after(seconds: float, story: Callable[[], object]) -> bool:
    """Run the story in a process that gets SIGKILL after `seconds`. Return whether it was still running.

    Raises:
        AssertionError: The story failed for another reason.
    """
    process = _started(story)
    process.join(seconds)
    if process.exitcode is None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"the story failed, exit status {process.exitcode}"
    return process.exitcode != 0


def _started(story: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    process = forks.Process(target=story)
    process.start()
    return process
