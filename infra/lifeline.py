"""Processes that end together with the process that started them, however that one ends: with its work, by a signal, or killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["end_at_eof", "end_with_parent", "groups_end_with_this_process", "lifeline"]

GRACE_S = 5.0


def end_with_parent(grace_s: float = GRACE_S) -> None:
    """End this process of multiprocessing as soon as its parent has ended. In any other process, do nothing.

    Args:
        grace_s: Seconds that the process may take to end in order after SIGTERM.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        _end_after(parent.join, grace_s)


def end_at_eof(descriptor: int) -> None:
    """End this process as soon as nobody holds the other end of the pipe at `descriptor`."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass

    _end_after(wait, GRACE_S)


@contextmanager
def lifeline() -> Iterator[int]:
    """Yield a descriptor for the standard input of a process that calls `end_at_eof(0)`. It ends if this process does."""
    ours, held = os.pipe()
    try:
        yield ours
    finally:
        os.close(ours)
        os.close(held)


@contextmanager
def groups_end_with_this_process() -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the id of a process group. If this process is killed within the block, the groups are ended.

    For programs of others, which cannot watch their parent themselves.
    """
    from configs.child_processes import child_environment  # not in the program itself, which imports no more than it must

    program = [sys.executable, str(Path(__file__))]
    with subprocess.Popen(program, stdin=subprocess.PIPE, env=child_environment(), start_new_session=True) as watcher:
        assert watcher.stdin is not None
        told = watcher.stdin

        def watch(group: int) -> None:
            told.write(b"%d\n" % group)
            told.flush()

        try:
            yield watch
        finally:
            with suppress(OSError):  # the watcher itself was killed
                watch(0)  # everything was ended in order


def _end_groups(told: Iterable[bytes]) -> None:
    """Read process groups until the writer ends. If the last is not 0, the writer was killed: end the groups, the last one first."""
    groups = [int(line) for line in told]
    if groups[-1:] == [0]:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in reversed(groups):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        time.sleep(GRACE_S if number == signal.SIGTERM else 0)


def _end_after(wait: Callable[[], object], grace_s: float) -> None:
    def watch() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)  # an orderly end first
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_groups(sys.stdin.buffer)
