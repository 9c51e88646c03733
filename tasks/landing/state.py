"""Load the state that a run starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from configs.clock import horizon
from configs.errors import NotFoundError
from configs.settings import LandingSettings
from infra.storage import Store
from infra.version_names import matching_version
from models.columns import Columns
from tasks.datasets import (
    DatasetRef,
    EventDigest,
    IdDigest,
    IdMap,
    IncrementalVersion,
    LandedState,
    Layout,
    LogEntry,
    Part,
    PartFiles,
    ReleaseVersion,
    StoredFile,
    list_datasets,
    map_batches,
    merged_events,
    read_manifest,
)
from tasks.ingest import seeded
from tasks.tables import ID_TABLES, DatasetProperties

__all__ = ["landed_state", "properties_before", "state_before"]


def properties_before(store: Store, name: str, head: LogEntry | None, settings: LandingSettings) -> DatasetProperties | None:
    """Return the properties of the dataset that new files are added to, or None if they start one. Raises as `state_before`."""
    if head is not None:
        return DatasetProperties.from_manifest(read_manifest(store, name, head.version))
    base = _base_ref(store, name, settings)
    return None if base is None else base.properties


def state_before(
    files: PartFiles, name: str, head: LogEntry | None, settings: LandingSettings, properties: DatasetProperties
) -> LandedState:
    """Load the dataset that new files are added to.

    Args:
        files: The objects of parts.
        name: The dataset.
        head: Its last log entry. Without one, `landing.base` tells what the first files are added to.
        settings: The settings of the landing zone.
        properties: Those of the files, which fix those of a new dataset.

    Raises:
        NotFoundError: landing.base names a version that is not stored.
    """
    return _base(files, name, settings, properties) if head is None else landed_state(files, name, head.version)


def landed_state(files: PartFiles, name: str, version: str) -> LandedState:
    """Load the state of a version that a landing zone made."""
    return IncrementalVersion(files.store, name, version, read_manifest(files.store, name, version)).state(files)


def _base_ref(store: Store, name: str, settings: LandingSettings) -> DatasetRef | None:
    """Return the release that the first files are added to, or None if they start a new dataset."""
    if settings.base == "none":
        return None
    releases = [ref for ref in list_datasets(store) if ref.name == name and ref.number == 0]
    if settings.base != "newest":
        version = matching_version(settings.base, [ref.version for ref in releases])
        releases = [ref for ref in releases if ref.version == version]
        if not releases:
            raise NotFoundError(
                f"landing.base is {settings.base}, but {store.uri('datasets')} has no version {name}/{settings.base} that was "
                "made from a release. `recsys data list` lists the stored versions."
            )
    return releases[-1] if releases else None


def _base(files: PartFiles, name: str, settings: LandingSettings, properties: DatasetProperties) -> LandedState:
    """Load the release that the first files are added to, or the empty state if they start a new dataset."""
    ref = _base_ref(files.store, name, settings)
    if ref is None:
        return LandedState.empty(properties)
    manifest = read_manifest(files.store, name, ref.version)
    stored = {
        table: StoredFile(f"{ref.prefix}/{table}.parquet", manifest["files"][f"{table}.parquet"], 0)
        for table in ("interactions", "items", "users")
    }
    earlier = f"{ReleaseVersion.SUPERSEDED}.parquet"
    superseded = (StoredFile(f"{ref.prefix}/{earlier}", manifest["files"][earlier], 0),) if earlier in manifest["files"] else ()
    events = StoredFile(stored["interactions"].key, stored["interactions"].sha256, ref.rows)
    base = Layout(
        parts=(Part(events, None, ref.first, ref.last),),
        items=stored["items"],
        users=stored["users"],
        base_rows=0,
        events=EventDigest(),
        superseded=superseded,
        ids={column: _base_map(files, ref, manifest, column) for column in ref.properties.text_columns},
    )
    frame = merged_events(files, base)
    layout = replace(base, base_rows=int(frame[Columns.ROW].max()) + 1, events=EventDigest.of(frame))
    return LandedState(
        layout=layout,
        items=seeded("items", files.frame(layout.items), np.unique(frame[Columns.ITEM].to_numpy(np.int64))),
        users=seeded("users", files.frame(layout.users), np.unique(frame[Columns.USER].to_numpy(np.int64))),
        first=ref.first,
        last=ref.last,
        horizon=ref.horizon if ref.horizon is not None else horizon(frame[Columns.TIME].to_numpy(np.int64)),
        parents=(f"{name}/{ref.version}",),
        is_release=True,
        properties=ref.properties,
    )


def _base_map(files: PartFiles, ref: DatasetRef, manifest: dict[str, Any], column: str) -> IdMap:
    """Return the id map of a release, whose object the version made of parts shares."""
    file = f"{ID_TABLES[column]}.parquet"
    stored = IdMap((StoredFile(f"{ref.prefix}/{file}", manifest["files"][file], 0),))
    digests = [IdDigest.of(numbers, texts) for numbers, texts in map_batches(files, stored)]
    return replace(stored, digest=sum(digests, start=IdDigest()))
