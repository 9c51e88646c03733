"""Versions made of a release: immutable, and named by their content."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.clock import horizon, wall_clock
from configs.errors import AlreadyExistsError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from models.columns import Columns
from tasks.datasets.content_digest import plain_cells
from tasks.datasets.quarantine import DELIVERIES, REFUSED, release_deliveries
from tasks.datasets.references import DatasetRef, list_datasets, load_dataset_ref
from tasks.ingest import TABLES, Release, ReleaseRefusedError, Validated, attributes_of, typed
from tasks.tables import ID_TABLES, DatasetProperties, read_parquet

__all__ = ["ReleaseVersion", "record_refusal", "write_dataset"]

Table = pd.DataFrame | Path  # in memory, or a Parquet file
BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class ReleaseVersion:
    """A version with one object for each table."""

    FORMAT: ClassVar[int] = 1  # of its manifest
    NAMED: ClassVar[tuple[str, ...]] = ("interactions", "items", "users")
    """The tables whose content determines the version's name, with SUPERSEDED and id maps if it has any. The other tables derive
    from them."""
    SUPERSEDED: ClassVar[str] = "superseded"  # events that happened before the one that counts; they change the features only

    store: Store
    name: str
    version: str
    manifest: dict[str, Any]

    @property
    def prefix(self) -> str:
        return f"datasets/{self.name}/{self.version}"

    def keys(self) -> set[str]:
        """Return the keys of its objects, without the manifest."""
        return {f"{self.prefix}/{file}" for file in self.manifest["files"]}

    def table(self, table: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read a table. Raises VersionCorruptError if its bytes do not match the manifest."""
        found = self.stored(table, columns)
        return found.assign(
            **{name: typed(found[name]) for kind in TABLES if kind == table for name in attributes_of(kind, found)}
        )

    def stored(self, table: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read a table in which attributes are text if numbers would tell less. Raises as `table`."""
        key = f"{self.prefix}/{table}.parquet"
        content = self.store.get(key)
        if sha256_of(content) != self.manifest["files"].get(f"{table}.parquet"):
            raise VersionCorruptError(
                f"{self.store.uri(key)} differs from its manifest: it was changed after it was stored. "
                "Restore the object, or delete the version and ingest again."
            )
        return read_parquet(io.BytesIO(content), columns)

    def verify(self) -> None:
        """Check the tables against the version's name. Raises VersionCorruptError if they do not match."""
        extra = [name for name in (self.SUPERSEDED, *ID_TABLES.values()) if f"{name}.parquet" in self.manifest["files"]]
        tables = {table: self.stored(table) for table in (*self.NAMED, *extra)}
        if _content_hash(tables, DatasetProperties.from_manifest(self.manifest)) != self.version:
            raise VersionCorruptError(
                f"The tables of {self.store.uri(self.prefix)} do not match the version's name: they and the manifest were changed "
                "after they were stored. Delete the version and ingest again. Do not promote anything that was trained on it."
            )


def write_dataset(
    store: Store,
    name: str,
    validated: Validated | Release,
    features: pd.DataFrame | Path,
    source_hashes: dict[str, str],
    parents: list[str] | None = None,
) -> DatasetRef:
    """Store a dataset version as `datasets/<name>/<12 hex digits of its content>`.

    The same content gives the same version. A sealed version is returned unchanged. If other files gave it (their new rows were all
    bad or repeated), the delivery is recorded beside it. A version that a killed run left without a manifest is completed.
    """
    tables: dict[str, Table] = {table: getattr(validated, table) for table in ReleaseVersion.NAMED}
    if len(validated.superseded):
        tables[ReleaseVersion.SUPERSEDED] = validated.superseded
    tables |= {table: validated.ids[table] for table in ID_TABLES.values() if table in validated.ids}
    version = _content_hash(tables, validated.properties)
    prefix = f"datasets/{name}/{version}"
    if store.exists(f"{prefix}/manifest.json"):
        _record_delivery(store, name, version, validated, source_hashes)
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
        "format": ReleaseVersion.FORMAT,
        "name": name,
        "version": version,
        "created": round(wall_clock(), 3),
        **_extent(validated.interactions),
        "schema": {table: {column: str(kind) for column, kind in _kinds(content).items()} for table, content in tables.items()},
        "parents": parents or [],
        "source_hashes": source_hashes,
        **validated.properties.to_manifest(),
        "validation": validated.report.to_dict(),
        "files": files,
    }
    with suppress(AlreadyExistsError):  # another run stored the same content at the same time; its manifest is equivalent
        store.put_new(f"{prefix}/manifest.json", json.dumps(manifest, indent=2).encode())
    return load_dataset_ref(store, name, version)


def record_refusal(store: Store, name: str, refusal: ReleaseRefusedError, source_hashes: dict[str, str]) -> None:
    """Record beside the newest version of a dataset that a later release of it was refused as a whole.

    The version stays as it is. Monitoring counts the refused rows. Nothing is recorded if there is no version, or if the newest
    one was made from landed files.
    """
    versions = [ref for ref in list_datasets(store) if ref.name == name]
    if versions and not versions[-1].number:
        record = {"source_hashes": source_hashes, "validation": refusal.report.to_dict(), REFUSED: str(refusal)}
        _record(store, versions[-1], record)


def _record_delivery(
    store: Store, name: str, version: str, validated: Validated | Release, source_hashes: dict[str, str]
) -> None:
    """Record what the validation of a delivery found that gave the content of a stored version, unless it is the last one again."""
    record = {"source_hashes": source_hashes, "validation": validated.report.to_dict()}
    _record(store, load_dataset_ref(store, name, version), record, validated.quarantined)


def _record(store: Store, dataset: DatasetRef, record: dict[str, Any], bad: pd.DataFrame | None = None) -> None:
    """Write the record of a delivery and its bad rows, unless the last one says the same."""
    last = release_deliveries(store, dataset)[-1]
    if {key: last.get(key) for key in {*record, REFUSED}} == {REFUSED: None, **json.loads(json.dumps(record))}:
        return
    stem = f"{dataset.prefix}/{DELIVERIES}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    if bad is not None and len(bad):
        store.put(f"{stem}.quarantine.parquet", _parquet(bad))
    store.put_new(f"{stem}.json", json.dumps({"created": round(wall_clock(), 3), **record}, indent=2).encode())


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    return buffer.getvalue()


def _content_hash(tables: Mapping[str, Table], properties: DatasetProperties) -> str:
    """Return 12 hex digits of the values, not of file bytes, so another Parquet writer gives the same version."""
    digest = hashlib.sha256(f"dataset format {ReleaseVersion.FORMAT}".encode())
    if said := properties.to_manifest():  # the digest without them is that of earlier versions of the product
        digest.update(json.dumps(said, sort_keys=True).encode())
    for name, table in tables.items():
        columns = list(_kinds(table))
        digest.update(f"{name} {[Columns.digested_as(column) for column in columns]}".encode())
        for column in columns:
            for cells in _pieces(table, column):
                digest.update(np.ascontiguousarray(pd.util.hash_array(plain_cells(cells))).tobytes())
    return digest.hexdigest()[:12]


def _extent(interactions: Table) -> dict[str, int]:
    """Return the numbers of rows, users and items, the UTC seconds of the first and the last event, and the horizon."""
    users, items, rows, first, seen = _none(), _none(), 0, np.iinfo(np.int64).max, [_none()]
    columns = (_pieces(interactions, name) for name in (Columns.USER, Columns.ITEM, Columns.TIME))
    for user_ids, item_ids, times in zip(*columns, strict=True):
        users, items = np.union1d(users, user_ids.unique()), np.union1d(items, item_ids.unique())
        rows, first = rows + len(times), min(first, int(times.min()))
        seen.append(times.to_numpy(np.int64))
    moments = np.concatenate(seen)
    last, reach = (int(moments.max()), horizon(moments, wall_clock())) if rows else (0, 0)
    return {"rows": rows, "users": len(users), "items": len(items), "first": int(first), "last": last, "horizon": reach}


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
