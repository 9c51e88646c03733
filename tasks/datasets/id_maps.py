"""The id maps of versions made of parts: which text each number stands for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.datasets.content_digest import IdDigest
from tasks.datasets.layout import IdMap
from tasks.datasets.part_files import PartFiles, PartStore
from tasks.tables import ID_TABLES, id_schema

__all__ = ["compacted_map", "extended_map", "map_batches", "map_entries"]

Ids = npt.NDArray[np.int64]
BATCH_ROWS = 1 << 20


def map_batches(files: PartFiles, ids: IdMap) -> Iterator[tuple[Ids, pa.Array]]:
    """Yield the numbers of a map and their texts, one file after the other."""
    for file in ids.files:
        for batch in files.parquet(file).iter_batches(BATCH_ROWS):
            yield batch.column(0).to_numpy(), batch.column(1)


def map_entries(files: PartFiles, ids: IdMap, column: str, wanted: Ids | None = None) -> pa.Table:
    """Return the entries of a map, or those whose number is in `wanted`, in ascending order."""
    schema = id_schema(column)
    found = [schema.empty_table()]
    for numbers, texts in map_batches(files, ids):
        kept = pa.array(np.flatnonzero(np.isin(numbers, wanted))) if wanted is not None else None
        table = pa.table([pa.array(numbers), texts], schema=schema)
        found.append(table if kept is None else table.take(kept))
    joined = pa.concat_tables(found)
    return joined.take(pa.array(np.argsort(joined.column(0).to_numpy(), kind="stable")))


def extended_map(parts: PartStore, ids: IdMap, column: str, added: pa.Table) -> IdMap:
    """Store further entries of a map as a file of their own. The map itself is returned if there are none."""
    if not len(added):
        return ids
    digest = IdDigest.of(added.column(0).to_numpy(), added.column(1))
    return IdMap((*ids.files, parts.arrow(ID_TABLES[column], added)), ids.digest + digest)


def compacted_map(files: PartFiles, parts: PartStore, ids: IdMap, column: str, wanted: Ids | None = None) -> IdMap:
    """Store a map, or its entries whose number is in `wanted`, as one file. It is returned as it is if nothing would change."""
    entries = map_entries(files, ids, column, wanted)
    if len(ids.files) <= 1 and len(entries) == ids.digest.rows:
        return ids
    return extended_map(parts, IdMap(), column, entries)
