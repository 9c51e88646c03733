"""The scratch folder in which a run over a landing zone keeps data that does not fit in memory."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from configs.errors import StoreFullError
from infra.storage import LEFTOVER_S
from tasks.tables import ParquetWriter, Rows

__all__ = ["ScratchFile", "scratch_folder", "writing"]


@contextmanager
def scratch_folder(work_dir: Path) -> Iterator[Path]:
    """Create a folder for this run. Folders that killed runs left behind are removed after a day.

    Raises:
        StoreFullError: The folder cannot be created.
    """
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
    """Wrap code that only writes to or reads from a scratch folder. Raises StoreFullError if that fails."""
    try:
        yield
    except OSError as error:
        work_dir = scratch.parents[1]
        raise StoreFullError(
            f"etl.work_dir ({work_dir}) cannot be written: {error.strerror or error}. Free up space there (about 150 bytes per "
            "incoming event), or choose another folder; nothing was added."
        ) from error


class ScratchFile(ParquetWriter):
    """A Parquet file in a scratch folder. Raises StoreFullError if it cannot be written."""

    def __init__(self, path: Path, schema: pa.Schema, *, temporary: bool = False, extent_of: str | None = None) -> None:
        super().__init__(path, schema, temporary=temporary, background=False, extent_of=extent_of)

    def write(self, rows: Rows) -> None:
        with writing(self.path.parent):
            super().write(rows)

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        with writing(self.path.parent):
            super().__exit__(kind, *raised)
