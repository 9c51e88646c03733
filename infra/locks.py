"""Locks: one run of a model at a time on a machine, and one process at a time for a shared file.

A lock is an flock on a file. The operating system releases it when its process ends, even if the process is killed. A lock
covers the processes of one machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from configs.errors import RunInProgressError, SettingsError

__all__ = ["run_lock", "turn"]

FOREVER_S = -1.0
POLL_S = 0.01


@contextmanager
def run_lock(work_dir: Path, model_name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the model's lock. The promotion log keeps runs on different machines apart.

    Args:
        work_dir: Folder of the lock file.
        model_name: The model to lock.
        wait_s: Seconds to wait for another process to release the lock.

    Raises:
        RunInProgressError: Another process still holds the lock after `wait_s` seconds.
        SettingsError: The lock file cannot be written.
    """
    path = work_dir / f"{model_name}.lock"
    try:
        lock = _taken(path, wait_s)
    except Timeout:
        holder = path.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
        raise RunInProgressError(
            f"Another run of {model_name} is under way (process {holder}, lock {path}). Wait for it to end, or give this one another "
            "model_name or work_dir."
        ) from None
    try:
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of a file, then hold it for the duration of the block.

    Raises SettingsError if the lock file cannot be written.
    """
    lock = _taken(path, FOREVER_S)
    try:
        yield
    finally:
        lock.release()


def _taken(path: Path, wait_s: float) -> FileLock:
    # Without flock, filelock would fall back to a lock that outlives a killed holder. A block may end in another thread.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait_s, poll_interval=POLL_S)
    except Timeout:
        raise
    except OSError as error:
        raise SettingsError(
            f"The lock file {path} cannot be used ({error.strerror or error}). Give this user the right to write to its folder, or "
            "point work_dir at another one."
        ) from error
    return lock
