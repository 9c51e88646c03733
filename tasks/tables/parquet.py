"""Read Parquet files of any age, and write them in pieces, atomically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models.columns import Columns

__all__ = ["ParquetWriter", "Rows", "parquet_batches", "read_parquet"]

Rows = pd.DataFrame | Mapping[str, npt.NDArray[Any]]


def read_parquet(source: Any, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a stored table. Columns that an earlier version of the product named differently get their present names.

    Args:
        source: What `pq.ParquetFile` opens, or such a file.
        columns: The columns to read, in this order. By default all.
    """
    file = source if isinstance(source, pq.ParquetFile) else pq.ParquetFile(source)
    names = file.schema_arrow.names
    chosen = names if columns is None else [Columns.stored_as(name, names) for name in columns]
    # Arrow puts the columns in order and the frame is renamed in place: pandas' own ways would copy all rows.
    frame: pd.DataFrame = file.read(chosen).select(chosen).to_pandas()
    frame.columns = pd.Index(Columns.present(frame.columns, names))  # without a stored index
    return frame


def parquet_batches(file: pq.ParquetFile, rows: int, columns: Sequence[str]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield columns of a stored table in batches of at most `rows` rows, by their present names."""
    names = file.schema_arrow.names
    stored = {name: Columns.stored_as(name, names) for name in columns}
    for batch in file.iter_batches(rows, columns=list(stored.values())):
        yield {name: batch.column(stored[name]).to_numpy(zero_copy_only=False) for name in columns}


class ParquetWriter:
    """A Parquet file that gets its name only when it is complete. After an error, the partial file is removed.

    The file has the columns of `schema`, and it exists even if no row is written. Without a schema, the first table defines the
    columns, so write at least one, even an empty one.

    Attributes:
        rows: The number of rows so far.
        first: The smallest value so far of the column `extent_of`; 0 if there are no rows.
        last: The largest value.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema | None = None,
        *,
        temporary: bool = False,
        background: bool = True,
        extent_of: str | None = None,
    ) -> None:
        """Prepare the file.

        Args:
            path: The name of the complete file.
            schema: The columns.
            temporary: Do not compress the file, because it is soon read again and deleted.
            background: Encode one table at a time in another thread while the caller prepares the next one. Do not change a
                table after writing it.
            extent_of: The column whose smallest and largest value are kept.
        """
        self.path = path
        self.rows = self.first = self.last = 0
        self._partial = path.with_name(f".{path.name}.partial")
        self._schema, self._extent_of = schema, extent_of
        self._options = {"compression": "none", "use_dictionary": False} if temporary else {"compression": "zstd"}
        self._writer: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet") if background else None
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, rows: Rows) -> None:
        """Write some rows. Raises OSError if these or earlier rows cannot be written."""
        if self._schema is None:
            self._schema = pa.Schema.from_pandas(rows, preserve_index=False)
        self._open()
        count = len(rows[self._schema.names[0]])
        if not count:  # it would become an empty row group
            return
        self._measure(rows, count)
        if self._thread is None:
            self._encode(rows)
        else:
            self._wait()
            self._pending = self._thread.submit(self._encode, rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait()
                self._open().close()
                self._partial.replace(self.path)
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            if self._writer is not None:
                with suppress(OSError):  # it failed before, and that error is the one to report
                    self._writer.close()
            self._partial.unlink(missing_ok=True)

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._partial, self._schema, **self._options)
        return self._writer

    def _measure(self, rows: Rows, count: int) -> None:
        if self._extent_of is not None:
            values = np.asarray(rows[self._extent_of])
            first, last = int(values.min()), int(values.max())
            self.first = min(first, self.first) if self.rows else first
            self.last = max(last, self.last) if self.rows else last
        self.rows += count

    def _encode(self, rows: Rows) -> None:
        assert self._writer is not None and self._schema is not None
        if isinstance(rows, pd.DataFrame):
            table = pa.Table.from_pandas(rows, preserve_index=False, schema=self._schema)
        else:
            table = pa.table({name: rows[name] for name in self._schema.names}, schema=self._schema)
        self._writer.write_table(table)

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
