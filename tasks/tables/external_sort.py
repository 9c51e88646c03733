"""Split tables larger than memory into parts that fit.

Rows with the same key stay together, and the parts come in ascending key order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.columns import Columns

__all__ = ["added_counts", "batches", "cut_points", "partition_by_key", "sorted_order"]

IntArray = npt.NDArray[np.int64]
BATCH_ROWS = 1 << 20


def batches(parts: Sequence[Path], columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the parts in order, at most `rows` at a time."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(rows, columns=list(columns))


def partition_by_key(
    parts: Sequence[Path], columns: Sequence[str], key: str, memory_rows: int, folder: Path, *, position: bool = False
) -> Iterator[pa.Table]:
    """Yield the rows of Parquet files in tables of at most `memory_rows` rows, or more if a single key has more.

    Each key is in exactly one table, and keys ascend from table to table. Within a table, rows keep the order of the files. If
    the rows do not fit in memory, they are spilled to `folder`, which needs as much space as the uncompressed files.

    Args:
        position: Add a column `position`: the number of the row among all rows of the files.
    """
    cuts = _cut_points(parts, key, memory_rows)
    if len(cuts) == 0:
        tables = [pa.Table.from_batches([batch]) for batch in _counted(parts, columns, position)]
        if tables:
            yield pa.concat_tables(tables)
        return
    with tempfile.TemporaryDirectory(prefix="spill-", dir=folder) as spilled:
        files = [Path(spilled) / f"{number}.arrow" for number in range(len(cuts) + 1)]
        _spill(_counted(parts, columns, position), key, cuts, files)
        for file in files:
            with pa.memory_map(str(file)) as source:
                table = pa.ipc.open_stream(source).read_all()
            yield table
            del table
            file.unlink()


def _cut_points(parts: Sequence[Path], key: str, memory_rows: int) -> IntArray:
    keys, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for batch in batches(parts, [key]):
        more, their = np.unique(batch.column(0).to_numpy(), return_counts=True)
        keys, counts = added_counts(keys, counts, more, their)
    return cut_points(keys, counts, memory_rows)


def added_counts(keys: IntArray, counts: IntArray, more: IntArray, their: IntArray) -> tuple[IntArray, IntArray]:
    """Add two row counts by key. The keys of the result ascend."""
    joined, inverse = np.unique(np.concatenate([keys, more]), return_inverse=True)
    return joined, np.bincount(inverse, np.concatenate([counts, their]), len(joined)).astype(np.int64)


def cut_points(keys: IntArray, counts: IntArray, memory_rows: int) -> IntArray:
    """Return the ascending keys at which a new table starts.

    No table has more than `memory_rows` rows, unless a single key has more.

    Args:
        keys: All keys, ascending.
        counts: The number of rows of each key.
    """
    cuts: list[int] = []
    ends = np.cumsum(counts)
    start = 0  # rows before the table that is being filled
    while len(ends) and ends[-1] - start > memory_rows:
        place = max(int(np.searchsorted(ends, start + memory_rows, side="right")), int(np.searchsorted(ends, start, "right")) + 1)
        if place >= len(keys):
            break
        cuts.append(int(keys[place]))
        start = int(ends[place - 1])
    return np.array(cuts, dtype=np.int64)


def _counted(parts: Sequence[Path], columns: Sequence[str], position: bool) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches(parts, columns):
        yield batch.append_column(Columns.POSITION, pa.array(np.arange(start, start + len(batch)))) if position else batch
        start += len(batch)


def _spill(rows: Iterator[pa.RecordBatch], key: str, cuts: IntArray, files: Sequence[Path]) -> None:
    with ExitStack() as stack:
        writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        schema: pa.Schema | None = None
        for batch in rows:
            schema = schema or batch.schema
            for number, part in _split(batch, np.searchsorted(cuts, batch.column(key).to_numpy(), side="right")):
                if number not in writers:
                    writers[number] = stack.enter_context(pa.ipc.new_stream(str(files[number]), schema))
                writers[number].write_batch(part)


def _split(batch: pa.RecordBatch, table: npt.NDArray[np.intp]) -> Iterator[tuple[int, pa.RecordBatch]]:
    if len(table) and table.min() == table.max():  # the case for files that are sorted by the key
        yield int(table[0]), batch
        return
    order = np.argsort(table, kind="stable")
    bounds = np.searchsorted(table[order], np.arange(table.max() + 2)) if len(table) else np.zeros(1, dtype=np.intp)
    arranged = batch.take(pa.array(order))
    for number in np.flatnonzero(np.diff(bounds)):
        yield int(number), arranged.slice(int(bounds[number]), int(bounds[number + 1] - bounds[number]))


def sorted_order(*keys: IntArray) -> npt.NDArray[np.intp]:
    """Return the order that sorts by the first key, then the second, and so on. Rows that agree in all keys come in any order.

    Keys that fit into 63 bits together are sorted as one number, which is several times as fast as np.lexsort.
    """
    if len(keys[0]) == 0:
        return np.empty(0, dtype=np.intp)
    lows = [int(key.min()) for key in keys]
    bits = [(int(key.max()) - low).bit_length() for key, low in zip(keys, lows, strict=True)]
    if sum(bits) > 63:
        return np.lexsort(keys[::-1])
    packed = keys[0] - lows[0]
    for key, low, width in zip(keys[1:], lows[1:], bits[1:], strict=True):
        packed = (packed << width) | (key - low)
    return np.argsort(packed)
