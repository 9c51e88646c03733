"""The folder in which a run over a landing zone keeps what does not fit memory."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import StoreFullError
from infra.stores import LEFTOVER_S

__all__ = ["scratch_folder", "writing"]


@contextmanager
def scratch_folder(work_dir: Path) -> Iterator[Path]:
    """A folder of this run; those that killed runs left are removed a day later. Raises StoreFullError where it cannot be made."""
    root = work_dir / "landing"
    folder = root / f"{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with writing(folder):
            folder.mkdir(parents=True)
            for left in root.iterdir():
                if time.time() - left.stat().st_mtime > LEFTOVER_S:
                    shutil.rmtree(left, ignore_errors=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(scratch: Path) -> Iterator[None]:
    """Around what only writes to a scratch folder, or reads there. Raises StoreFullError where that fails."""
    try:
        yield
    except OSError as error:
        work_dir = scratch.parents[1]
        raise StoreFullError(
            f"etl.work_dir ({work_dir}) cannot be written: {error.strerror or error}. Free space there (about 150 bytes an event that "
            "arrives), or choose another folder; nothing was added."
        ) from error
