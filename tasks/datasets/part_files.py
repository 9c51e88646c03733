"""The objects that versions made of parts share: read from the store, and written to it."""

from __future__ import annotations

import hashlib
import io
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import NotFoundError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import LEFTOVER_S, Store
from tasks.datasets.layout import Layout, Part, StoredFile
from tasks.tables import ParquetWriter, read_parquet

__all__ = ["PartFiles", "PartStore"]


@dataclass(frozen=True)
class PartStore:
    """Stores the new objects of a log entry under `datasets/<name>/parts/`, named by the entry and their content."""

    store: Store
    name: str
    number: int  # of the log entry

    def part(self, events: ParquetWriter, removals: pd.DataFrame | None = None) -> Part:
        """Store a part.

        Args:
            events: The complete file of its events, with their first and last time.
            removals: The rows of earlier parts that it supersedes.
        """
        stored = self._put("events", events.path, events.rows)
        removed = self.table("removals", removals) if removals is not None and len(removals) else None
        return Part(stored, removed, events.first, events.last)

    def table(self, kind: str, frame: pd.DataFrame) -> StoredFile:
        """Store a table."""
        return self.arrow(kind, pa.Table.from_pandas(frame, preserve_index=False))

    def arrow(self, kind: str, table: pa.Table) -> StoredFile:
        """Store a table."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return self._put(kind, buffer.getvalue(), len(table))

    def _put(self, kind: str, content: Path | bytes, rows: int) -> StoredFile:
        sha256 = sha256_of(content)
        key = f"datasets/{self.name}/parts/{self.number:08d}-{kind}-{sha256[:16]}.parquet"
        self.store.put(key, content)
        return StoredFile(key, sha256, rows)


class PartFiles:
    """Opens the objects of parts as files. Each object is verified once.

    For a remote store, `cache` keeps the objects by sha256. The modification time of a cached file is the time of its last use.
    """

    def __init__(self, store: Store, cache: Path | None = None) -> None:
        self.store, self._cache = store, cache
        self._checked: set[str] = set()

    def parquet(self, file: StoredFile) -> pq.ParquetFile:
        """Open an object.

        Raises:
            NotFoundError: The object is not in the store.
            VersionCorruptError: The object differs from the one that was stored.
        """
        return pq.ParquetFile(self._source(file))

    def frame(self, file: StoredFile) -> pd.DataFrame:
        """Read an object as a table. Raises the same errors as `parquet`."""
        return read_parquet(self.parquet(file))

    def remove_unused(self, layout: Layout) -> None:
        """Delete cached files that are not in this layout and were not used for a day, so the cache does not grow forever."""
        if self._cache is None:
            return
        kept = {f"{file.sha256}.parquet" for file in layout.files}
        for path in self._cache.glob("*"):
            with suppress(OSError):  # a concurrent run has removed it, or it cannot be removed; a surplus file does no harm
                if path.name not in kept and time.time() - path.stat().st_mtime > LEFTOVER_S:
                    path.unlink()

    def _source(self, file: StoredFile) -> Any:
        path = self.store.local_file(file.key)
        if path is None and self._cache is not None:
            return self._cached(self._cache / f"{file.sha256}.parquet", file)
        if path is None:
            content = self.store.get(file.key)
            if sha256_of(content) != file.sha256:
                raise self._differing(file)
            return pa.BufferReader(content)
        if not path.exists():
            raise NotFoundError(f"{self.store.uri(file.key)} is part of a dataset version, but it is not in the store.")
        with path.open("rb") as opened:
            if not self._is_whole(opened, file):
                raise self._differing(file)
        return path

    def _cached(self, path: Path, file: StoredFile) -> pa.NativeFile:
        """Return an open file: a concurrent run may unlink it at any time, but an open file can be read to its end."""
        for is_fetched in (False, True, True):
            if is_fetched:
                self._checked.discard(file.key)
                self.store.fetch(file.key, path)
            with suppress(OSError):  # the file belongs to another user or does not exist
                os.utime(path)
            with suppress(FileNotFoundError):
                opened = pa.OSFile(str(path))
                if self._is_whole(opened, file):
                    opened.seek(0)
                    return opened
        raise self._differing(file)

    def _is_whole(self, opened: Any, file: StoredFile) -> bool:
        if file.key not in self._checked:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return False
            self._checked.add(file.key)
        return True

    def _differing(self, file: StoredFile) -> VersionCorruptError:
        return VersionCorruptError(
            f"{self.store.uri(file.key)} differs from its manifest: it was changed after it was stored. Restore the object, "
            "or delete the versions that contain it."
        )
