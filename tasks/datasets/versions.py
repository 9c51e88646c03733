"""Dataset versions: immutable, named by their content, and sealed by a manifest that is written last."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from tasks.datasets import incremental as landed_versions
from tasks.datasets.table_digest import plain_cells
from tasks.ingest import Release, Validated

__all__ = [
    "DatasetRef",
    "Quarantine",
    "list_datasets",
    "load_dataset_ref",
    "quarantine_of",
    "read_manifest",
    "read_table",
    "verify_dataset",
    "write_dataset",
]

FORMAT = 1
Table = pd.DataFrame | Path  # in memory, or a Parquet file
BATCH_ROWS = 1 << 20
NAMED = ("interactions", "items", "users")  # their content determines the version's name; the other tables derive from them


@dataclass(frozen=True)
class Quarantine:
    """The number of incoming rows, and how many of them validation quarantined."""

    rows: int
    quarantined: int


@dataclass(frozen=True)
class DatasetRef:
    """A dataset version in the store."""

    name: str
    version: str
    prefix: str  # key prefix of its objects
    uri: str
    rows: int
    users: int
    items: int
    first: int  # UTC seconds of the first event
    last: int
    parents: tuple[str, ...] = ()  # name/version of the versions it was made from
    number: int = 0  # its number in the landing log; 0 for a release


def write_dataset(
    store: Store,
    name: str,
    validated: Validated | Release,
    features: pd.DataFrame | Path,
    source_hashes: dict[str, str],
    parents: list[str] | None = None,
) -> DatasetRef:
    """Store a dataset version as `datasets/<name>/<12 hex digits of its content>`.

    The same content gives the same version. A sealed version is returned unchanged. A version that a killed run left without a
    manifest is completed.
    """
    tables: dict[str, Table] = {table: getattr(validated, table) for table in NAMED}
    version = _content_hash(tables)
    prefix = f"datasets/{name}/{version}"
    if store.exists(f"{prefix}/manifest.json"):
        return load_dataset_ref(store, name, version)
    files: dict[str, str] = {}
    if len(validated.quarantined):
        tables["quarantine"] = validated.quarantined
    tables["features"] = features
    for table, content in tables.items():
        written = _parquet(content) if isinstance(content, pd.DataFrame) else content
        store.put(f"{prefix}/{table}.parquet", written)
        files[f"{table}.parquet"] = sha256_of(written)
    manifest = {
        "format": FORMAT,
        "name": name,
        "version": version,
        **_extent(validated.interactions),
        "schema": {table: {column: str(kind) for column, kind in _kinds(content).items()} for table, content in tables.items()},
        "parents": parents or [],
        "source_hashes": source_hashes,
        "validation": validated.report.to_dict(),
        "files": files,
    }
    with suppress(AlreadyExistsError):  # another run stored the same content at the same time; its manifest is equivalent
        store.put_new(f"{prefix}/manifest.json", json.dumps(manifest, indent=2).encode())
    return load_dataset_ref(store, name, version)


def load_dataset_ref(store: Store, name: str, version: str) -> DatasetRef:
    """Return the sealed version. Raises NotFoundError if there is none."""
    manifest = read_manifest(store, name, version)
    prefix = f"datasets/{name}/{version}"
    facts = {key: manifest[key] for key in ("rows", "users", "items", "first", "last")}
    parents = tuple(manifest["parents"])
    return DatasetRef(name, version, prefix, store.uri(prefix), **facts, parents=parents, number=manifest.get("number", 0))


def read_manifest(store: Store, name: str, version: str) -> dict[str, Any]:
    """Return the version's manifest.

    Raises:
        NotFoundError: There is no such sealed version.
        VersionCorruptError: The manifest is not valid JSON.
    """
    key = f"datasets/{name}/{version}/manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(store.get(key))
    except NotFoundError as error:
        raise NotFoundError(f"There is no dataset {name} version {version} in {store.uri('datasets')}.") from error
    except ValueError as error:
        raise VersionCorruptError(
            f"{store.uri(key)} cannot be read as JSON ({error}): it was changed after it was stored. Restore the object, "
            "or delete the version and ingest again."
        ) from error
    return manifest


def quarantine_of(manifest: dict[str, Any]) -> Quarantine | None:
    """Return the numbers of incoming and of quarantined event rows, or None if the manifest does not record them."""
    found = manifest.get("validation", {}).get("tables", {}).get("interactions")
    return Quarantine(int(found["rows"]), int(found["quarantined"])) if found else None


def list_datasets(store: Store) -> list[DatasetRef]:
    """Return all sealed versions, by name, oldest content first.

    Versions of a landing zone follow the releases of the same name, in log order.
    """
    keys = [key.split("/") for key in store.list("datasets/") if key.endswith("/manifest.json")]
    refs = [load_dataset_ref(store, parts[1], parts[2]) for parts in keys]
    return sorted(refs, key=lambda ref: (ref.name, ref.number, ref.last, ref.rows))


def read_table(store: Store, ref: DatasetRef, table: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table of the version. If the version is made of parts, they are merged.

    Raises:
        VersionCorruptError: The stored bytes do not match the manifest.
    """
    manifest = read_manifest(store, ref.name, ref.version)
    if manifest["format"] == landed_versions.FORMAT:
        found = landed_versions.read_landed_table(store, manifest, table)
        return found if columns is None else found[columns]
    content = store.get(f"{ref.prefix}/{table}.parquet")
    expected = manifest["files"].get(f"{table}.parquet")
    if sha256_of(content) != expected:
        raise VersionCorruptError(
            f"{store.uri(f'{ref.prefix}/{table}.parquet')} differs from its manifest: it was changed after it was stored. "
            "Restore the object, or delete the version and ingest again."
        )
    frame: pd.DataFrame = pq.read_table(io.BytesIO(content), columns=columns).to_pandas()
    return frame


def verify_dataset(store: Store, ref: DatasetRef) -> None:
    """Check that the version's tables match its name. A table and the manifest can be edited together, but the name cannot.

    Raises:
        VersionCorruptError: The tables do not match the name.
    """
    manifest = read_manifest(store, ref.name, ref.version)
    if manifest["format"] == landed_versions.FORMAT:
        landed_versions.verify_landed(store, manifest)
        return
    tables = {table: read_table(store, ref, table) for table in NAMED}
    if _content_hash(tables) != ref.version:
        raise VersionCorruptError(
            f"The tables of {ref.uri} do not match the version's name: they and the manifest were changed after they were "
            "stored. Delete the version and ingest again. Do not promote anything that was trained on it."
        )


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    return buffer.getvalue()


def _content_hash(tables: Mapping[str, Table]) -> str:
    """Return 12 hex digits of the values, not of file bytes, so another Parquet writer gives the same version."""
    digest = hashlib.sha256(f"dataset format {FORMAT}".encode())
    for name, table in tables.items():
        columns = list(_kinds(table))
        digest.update(f"{name} {columns}".encode())
        for column in columns:
            for cells in _pieces(table, column):
                digest.update(np.ascontiguousarray(pd.util.hash_array(plain_cells(cells))).tobytes())
    return digest.hexdigest()[:12]


def _extent(interactions: Table) -> dict[str, int]:
    """Return the numbers of rows, users and items, and the UTC seconds of the first and the last event."""
    users, items, rows, first, last = _none(), _none(), 0, np.iinfo(np.int64).max, 0
    for user_id, movie_id, times in zip(
        *(_pieces(interactions, name) for name in ("user_id", "movie_id", "timestamp")), strict=True
    ):
        users, items = np.union1d(users, user_id.unique()), np.union1d(items, movie_id.unique())
        rows, first, last = rows + len(times), min(first, int(times.min())), max(last, int(times.max()))
    return {"rows": rows, "users": len(users), "items": len(items), "first": int(first), "last": last}


def _pieces(table: Table, column: str) -> Iterator[pd.Series[Any]]:
    """Yield the cells of a column, in order."""
    if isinstance(table, pd.DataFrame):
        yield table[column]
        return
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
            yield batch.to_pandas()[column]


def _kinds(table: Table) -> dict[str, Any]:
    """Return the dtypes by column."""
    frame = table if isinstance(table, pd.DataFrame) else pq.read_schema(table).empty_table().to_pandas()
    return dict(frame.dtypes.items())


def _none() -> np.ndarray[Any, Any]:
    return np.empty(0, dtype=np.int64)
