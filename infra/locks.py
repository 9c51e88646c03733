"""Locks: one run of a model at a time on a machine, and one process at a time for a shared file."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import RunInProgressError

__all__ = ["run_lock", "turn"]

POLL_S = 0.5


@contextmanager
def run_lock(work_dir: Path, model_name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the model's lock. The operating system releases it when the process ends, even if the process is killed.

    The lock covers one machine. The promotion log keeps runs on different machines apart.

    Args:
        work_dir: Folder of the lock file.
        model_name: The model to lock.
        wait_s: Seconds to wait for another process to release the lock.

    Raises:
        RunInProgressError: Another process still holds the lock after `wait_s` seconds.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / f"{model_name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        end = time.monotonic() + wait_s
        while not _taken(descriptor):
            if time.monotonic() < end:
                time.sleep(POLL_S)
                continue
            holder = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
            raise RunInProgressError(
                f"Another run of {model_name} is under way (process {holder}, lock {path}). Wait for it to end, or give this one another "
                "model_name or work_dir."
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of a file, then hold it for the duration of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
