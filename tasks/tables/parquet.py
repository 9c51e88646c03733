"""Write Parquet files in pieces, atomically."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["ParquetWriter"]


class ParquetWriter:
    """A Parquet file that gets its name only when it is complete. After an error, the partial file is removed.

    One frame at a time is encoded in a background thread while the caller prepares the next one, so do not change a frame after
    writing it. Write at least one frame, even an empty one, because the first frame defines the columns.
    """

    def __init__(self, path: Path, *, temporary: bool = False) -> None:
        """Prepare the file. A `temporary` file is not compressed, because it is soon read again and deleted."""
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._options = {"compression": "none", "use_dictionary": False} if temporary else {"compression": "zstd"}
        self._writer: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._pending: Future[None] | None = None

    def __enter__(self) -> ParquetWriter:
        return self

    def write(self, frame: pd.DataFrame) -> None:
        """Write a frame. Raises OSError if this or an earlier frame cannot be written."""
        if self._writer is None:
            schema = pa.Schema.from_pandas(frame, preserve_index=False)
            self._writer = pq.ParquetWriter(self._partial, schema, **self._options)
        if len(frame):  # an empty frame would become an empty row group
            self._wait()
            self._pending = self._thread.submit(self._encode, frame)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait()
        except BaseException:
            kind = OSError
            raise
        finally:
            self._thread.shutdown()
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                self._partial.replace(self.path)
            else:
                self._partial.unlink(missing_ok=True)

    def _encode(self, frame: pd.DataFrame) -> None:
        assert self._writer is not None
        self._writer.write_table(pa.Table.from_pandas(frame, preserve_index=False, schema=self._writer.schema))

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
