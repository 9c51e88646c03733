"""Dataset versions that a landing zone makes: their manifest, their tables, and the check that they match their name.

A version's name is `<content>-<layout>`. The first 12 hex digits stand for its content: items, users, and events in any order and
any parts. The last 12 stand for the objects it is made of. Versions with the same content are the same data in other
parts.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from tasks.datasets.content_digest import EventDigest
from tasks.datasets.parts import Layout, PartFiles, StoredFile, merged_events
from tasks.datasets.table_digest import plain_cells
from tasks.ingest import Kind, build_features, public

__all__ = [
    "FORMAT",
    "LandedState",
    "content_of",
    "landed_manifest",
    "read_landed_table",
    "store_file",
    "store_frame",
    "verify_landed",
    "version_of",
]

FORMAT = 2


@dataclass(frozen=True, eq=False)
class LandedState:
    """A dataset as a run finds it: its layout, and its tables with the columns that adding later files needs."""

    layout: Layout
    items: pd.DataFrame  # with descriptions.STATE
    users: pd.DataFrame
    first: int
    last: int
    parents: tuple[str, ...]  # name/version
    is_release: bool = False  # the stored tables of a release lack STATE


def content_of(events: EventDigest, items: pd.DataFrame, users: pd.DataFrame) -> str:
    """Return 12 hex digits of a version's content. `row`, the order of a release's ties, is not part of the content."""
    digest = hashlib.sha256(f"landed format {FORMAT} {events}".encode())
    for name, frame in (("items", public("items", items)), ("users", public("users", users))):
        digest.update(f"{name} {list(frame.columns)}".encode())
        for column in frame.columns:
            digest.update(np.ascontiguousarray(pd.util.hash_array(plain_cells(frame[column]))).tobytes())
    return digest.hexdigest()[:12]


def version_of(content: str, layout: Layout) -> str:
    """Return the name of the version with this content and layout."""
    return f"{content}-{layout.digest}"


def landed_manifest(
    name: str, number: int, content: str, state: LandedState, sources: dict[str, str], watermark: int
) -> dict[str, Any]:
    """Return the manifest of the version that log entry `number` makes."""
    layout = state.layout
    return {
        "format": FORMAT,
        "name": name,
        "version": version_of(content, layout),
        "content": content,
        "number": number,
        "rows": layout.rows,
        "users": int(state.users["rated"].sum()),
        "items": int(state.items["rated"].sum()),
        "first": state.first,
        "last": state.last,
        "watermark": watermark,
        "parents": list(state.parents),
        "source_hashes": sources,
        "layout": layout.to_dict(),
    }


def read_landed_table(store: Store, manifest: dict[str, Any], table: str, cache: Path | None = None) -> pd.DataFrame:
    """Read the interactions, items, users or features of the version. The features are computed.

    Raises:
        VersionCorruptError: An object differs from the manifest.
        KeyError: There is no such table.
    """
    layout, files = Layout.from_dict(manifest["layout"]), PartFiles(store, cache)
    if table == "interactions":
        return merged_events(files, layout)
    if table == "features":
        return build_features(merged_events(files, layout))
    kinds: dict[str, Kind] = {"items": "items", "users": "users"}
    return public(kinds[table], files.frame(getattr(layout, table)))


def verify_landed(store: Store, manifest: dict[str, Any]) -> None:
    """Check that the version's objects and their content match its name.

    Raises:
        VersionCorruptError: They do not match.
    """
    layout, files = Layout.from_dict(manifest["layout"]), PartFiles(store)
    tables = {"items": files.frame(layout.items), "users": files.frame(layout.users)}
    events = EventDigest.of(merged_events(files, layout))
    content = content_of(events, **tables)
    if events != layout.events or version_of(content, layout) != manifest["version"]:
        uri = store.uri(f"datasets/{manifest['name']}/{manifest['version']}")
        raise VersionCorruptError(
            f"The objects of {uri} do not match the version's name: they and the manifest were changed after they were stored. "
            "Delete the version and ingest again. Do not promote anything that was trained on it."
        )


def store_file(store: Store, name: str, number: int, kind: str, content: Path | bytes, rows: int) -> StoredFile:
    """Store a Parquet file under `datasets/<name>/parts/`, named by its log entry and its content."""
    sha256 = sha256_of(content)
    key = f"datasets/{name}/parts/{number:08d}-{kind}-{sha256[:16]}.parquet"
    store.put(key, content)
    return StoredFile(key, sha256, rows)


def store_frame(store: Store, name: str, number: int, kind: str, frame: pd.DataFrame) -> StoredFile:
    """Store a table as `store_file` stores a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    return store_file(store, name, number, kind, buffer.getvalue(), len(frame))
