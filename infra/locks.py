"""One run at a time for each model on one machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import RunInProgressError

__all__ = ["run_lock"]


@contextmanager
def run_lock(work_dir: Path, model_name: str) -> Iterator[None]:
    """Hold the model's lock; the system frees it when the process ends, however it ends.

    Raises RunInProgressError when another process holds it. Runs on other machines are kept apart by the promotion log.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / f"{model_name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
            raise RunInProgressError(
                f"Another run of {model_name} is under way (process {holder}, lock {path}). Wait for it to end, or give this one another "
                "model_name or work_dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
