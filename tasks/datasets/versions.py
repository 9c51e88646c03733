"""Open a dataset version of either kind: made of a release, or made of parts by a landing zone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from infra.storage import Store
from models.columns import Columns
from tasks.datasets.incremental import IncrementalVersion
from tasks.datasets.layout import StoredFile
from tasks.datasets.part_events import CHUNK_ROWS, Arrays, merged_chunks
from tasks.datasets.part_files import PartFiles
from tasks.datasets.references import DatasetRef, read_manifest
from tasks.datasets.release import ReleaseVersion
from tasks.tables import ID_TABLES, parquet_batches

__all__ = ["Version", "external_ids", "open_version", "read_events", "read_table", "verify_dataset"]


class Version(Protocol):
    """A sealed version: immutable, and named by its content."""

    def keys(self) -> set[str]:
        """Return the keys of its objects, without the manifest."""

    def table(self, table: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read a table, or some of its columns. Raises VersionCorruptError if the stored bytes do not match the manifest."""

    def verify(self) -> None:
        """Check the tables against the version's name. Raises VersionCorruptError if they do not match."""


def open_version(store: Store, name: str, version: str) -> Version:
    """Open a version by the format of its manifest. Raises NotFoundError if there is none."""
    manifest = read_manifest(store, name, version)
    kind: type[IncrementalVersion | ReleaseVersion] = (
        IncrementalVersion if manifest["format"] == IncrementalVersion.FORMAT else ReleaseVersion
    )
    return kind(store, name, version, manifest)


def read_table(store: Store, ref: DatasetRef, table: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table of the version. If the version is made of parts, they are merged.

    Raises:
        VersionCorruptError: The stored bytes do not match the manifest.
    """
    return open_version(store, ref.name, ref.version).table(table, columns)


def external_ids(store: Store, dataset: DatasetRef, column: str) -> pd.Series[str] | None:
    """Return the external ids of a column, or None if its ids are integers.

    Args:
        store: The store.
        dataset: The version.
        column: `user_id` or `item_id`.

    Returns:
        The texts, by their numbers, which ascend.
    """
    if column not in dataset.properties.text_columns:
        return None
    table = open_version(store, dataset.name, dataset.version).table(ID_TABLES[column])
    return pd.Series(
        table[Columns.EXTERNAL_ID].array, index=pd.Index(table[column].to_numpy(np.int64), name=column), name=Columns.EXTERNAL_ID
    )


def read_events(store: Store, ref: DatasetRef, columns: Sequence[str] = Columns.HAPPENED) -> Iterator[Arrays]:
    """Yield the version's events in chunks, sorted by user, time and item. One chunk is in memory at once, and the later parts.

    Args:
        store: Store of the version.
        ref: The version.
        columns: The columns to read, which include those of `Columns.HAPPENED`.

    Raises:
        VersionCorruptError: The stored bytes do not match the manifest.
    """
    version, files = open_version(store, ref.name, ref.version), PartFiles(store)
    if isinstance(version, ReleaseVersion):
        file = "interactions.parquet"
        stored = StoredFile(f"{version.prefix}/{file}", version.manifest["files"][file], version.manifest["rows"])
        yield from parquet_batches(files.parquet(stored), CHUNK_ROWS, columns)
        return
    assert isinstance(version, IncrementalVersion)  # there are two forms
    yield from merged_chunks(files, version.layout, columns)


def verify_dataset(store: Store, ref: DatasetRef) -> None:
    """Check that the version's tables match its name. A table and the manifest can be edited together, but the name cannot.

    Raises:
        VersionCorruptError: The tables do not match the name.
    """
    open_version(store, ref.name, ref.version).verify()
