"""Dataset versions: immutable, named by their content, sealed by a manifest that is written last."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from infra.stores import Store
from tasks.validate import Validated

__all__ = ["DatasetRef", "list_datasets", "load_dataset_ref", "read_manifest", "read_table", "verify_dataset", "write_dataset"]

FORMAT = 1
NAMED = ("interactions", "items", "users")  # whose content is the version's name; the rest derives from them


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


def write_dataset(
    store: Store,
    name: str,
    validated: Validated,
    features: pd.DataFrame,
    source_hashes: dict[str, str],
    parents: list[str] | None = None,
) -> DatasetRef:
    """Store a version `datasets/<name>/<12 hex of its content>`.

    The same content is the same version: a sealed one is returned as it is, one that a killed run left without a
    manifest is completed.
    """
    tables = {table: getattr(validated, table) for table in NAMED}
    version = _content_hash(tables)
    prefix = f"datasets/{name}/{version}"
    if store.exists(f"{prefix}/manifest.json"):
        return load_dataset_ref(store, name, version)
    files: dict[str, str] = {}
    if len(validated.quarantined):
        tables["quarantine"] = validated.quarantined
    for table, frame in {**tables, "features": features}.items():
        content = _parquet(frame)
        store.put(f"{prefix}/{table}.parquet", content)
        files[f"{table}.parquet"] = hashlib.sha256(content).hexdigest()
    times = validated.interactions["timestamp"]
    manifest = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "rows": len(times),
        "users": int(validated.interactions["user_id"].nunique()),
        "items": int(validated.interactions["movie_id"].nunique()),
        "first": int(times.min()),
        "last": int(times.max()),
        "schema": {
            table: {c: str(t) for c, t in frame.dtypes.items()} for table, frame in {**tables, "features": features}.items()
        },
        "parents": parents or [],
        "source_hashes": source_hashes,
        "validation": validated.report.to_dict(),
        "files": files,
    }
    with suppress(AlreadyExistsError):  # another run wrote the same content at the same time: its manifest is ours
        store.put_new(f"{prefix}/manifest.json", json.dumps(manifest, indent=2).encode())
    return load_dataset_ref(store, name, version)


def load_dataset_ref(store: Store, name: str, version: str) -> DatasetRef:
    """The sealed version. Raises NotFoundError."""
    manifest = read_manifest(store, name, version)
    prefix = f"datasets/{name}/{version}"
    facts = {key: manifest[key] for key in ("rows", "users", "items", "first", "last")}
    return DatasetRef(name, version, prefix, store.uri(prefix), **facts)


def read_manifest(store: Store, name: str, version: str) -> dict[str, Any]:
    """The version's manifest. Raises NotFoundError where there is no sealed version, VersionCorruptError where it is no JSON."""
    key = f"datasets/{name}/{version}/manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(store.get(key))
    except NotFoundError as error:
        raise NotFoundError(f"There is no dataset {name} version {version} in {store.uri('datasets')}.") from error
    except ValueError as error:
        raise VersionCorruptError(
            f"{store.uri(key)} cannot be read as JSON ({error}): it was changed after it was stored. Restore the object, or delete "
            "the version and ingest again."
        ) from error
    return manifest


def list_datasets(store: Store) -> list[DatasetRef]:
    """All sealed versions, by name, oldest content first."""
    keys = [key.split("/") for key in store.list("datasets/") if key.endswith("/manifest.json")]
    refs = [load_dataset_ref(store, parts[1], parts[2]) for parts in keys]
    return sorted(refs, key=lambda ref: (ref.name, ref.last, ref.rows))


def read_table(store: Store, ref: DatasetRef, table: str, columns: list[str] | None = None) -> pd.DataFrame:
    """A table of the version. Raises VersionCorruptError when its bytes are not those of the manifest."""
    content = store.get(f"{ref.prefix}/{table}.parquet")
    expected = read_manifest(store, ref.name, ref.version)["files"].get(f"{table}.parquet")
    if hashlib.sha256(content).hexdigest() != expected:
        raise VersionCorruptError(
            f"{store.uri(f'{ref.prefix}/{table}.parquet')} differs from its manifest: it was changed after it was stored. Restore "
            "the object, or delete the version and ingest again."
        )
    frame: pd.DataFrame = pq.read_table(io.BytesIO(content), columns=columns).to_pandas()
    return frame


def verify_dataset(store: Store, ref: DatasetRef) -> None:
    """Raises VersionCorruptError where the version's tables are not those that its name was made of: a table and the manifest
    can be edited together, the name cannot."""
    tables = {table: read_table(store, ref, table) for table in NAMED}
    if _content_hash(tables) != ref.version:
        raise VersionCorruptError(
            f"The tables of {ref.uri} are not those that the version is named after: they and the manifest were changed after they were "
            "stored. Delete the version and ingest again; nothing that was trained on it should be promoted."
        )


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    return buffer.getvalue()


def _content_hash(tables: dict[str, pd.DataFrame]) -> str:
    """12 hex digits over values, not bytes of files: another Parquet writer makes the same version."""
    digest = hashlib.sha256(f"dataset format {FORMAT}".encode())
    for name, frame in tables.items():
        digest.update(f"{name} {list(frame.columns)}".encode())
        for column in frame.columns:
            digest.update(np.ascontiguousarray(pd.util.hash_array(_plain(frame[column]))).tobytes())
    return digest.hexdigest()[:12]


def _plain(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    if column.dtype.kind in "iuf" and not pd.api.types.is_extension_array_dtype(column.dtype):
        return column.to_numpy()
    return column.astype("object").where(column.notna(), None).map(repr).to_numpy(object)
