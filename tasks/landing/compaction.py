"""Compact the parts of a dataset into one: a new version with the same content."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from configs.settings import LandingSettings
from infra.storage import Store
from models.columns import Columns
from tasks.datasets import (
    DatasetRef,
    EventDigest,
    LandingLog,
    Layout,
    LogEntry,
    PartFiles,
    PartStore,
    StoredFile,
    compacted_map,
    landed_manifest,
    load_dataset_ref,
    merged_chunks,
    part_schema,
    superseded_events,
)
from tasks.landing.scratch import ScratchFile, scratch_folder
from tasks.landing.state import landed_state

__all__ = ["compact", "is_due", "kept_superseded"]


def is_due(layout: Layout, settings: LandingSettings) -> bool:
    """Return whether a version has more parts, or a larger share of its rows in later parts, than the settings allow."""
    later = layout.parts[1:]
    rows = sum(part.events.rows for part in later)
    most = max(len(later), *(len(ids.files) - 1 for ids in layout.ids.values()), 0)
    return most > settings.compact_parts or rows > settings.compact_share * layout.rows


def compact(store: Store, name: str, settings: LandingSettings, work_dir: Path, now: float, *, force: bool = False) -> DatasetRef:
    """Compact the newest version that a landing zone made of `name`, if compaction is due or `force` is set.

    A version that is not due, or that has a single part, is returned unchanged.

    Raises:
        NotFoundError: No landing zone has added to the dataset.
        VersionCorruptError: The parts do not hold the events that the manifest records.
        AlreadyExistsError: Other runs were faster `landing.max_retries_on_conflict` times.
    """
    for _ in range(settings.max_retries_on_conflict):
        try:
            return _compact(store, name, settings, work_dir, now, force)
        except AlreadyExistsError:
            continue
    raise AlreadyExistsError(
        f"Other runs added to {name} {settings.max_retries_on_conflict} times while it was compacted. Run again."
    )


def kept_superseded(parts: PartStore, superseded: pd.DataFrame) -> tuple[StoredFile, ...]:
    """Store the superseded events of all parts as one file. Returns no file if there are none."""
    if superseded.empty:
        return ()
    names = list(Columns.HAPPENED)
    distinct = superseded.sort_values([*names, Columns.ORIGIN]).drop_duplicates(names, ignore_index=True)
    return (parts.table("superseded", distinct),)


def _compact(store: Store, name: str, settings: LandingSettings, work_dir: Path, now: float, force: bool) -> DatasetRef:
    log = LandingLog(store, name)
    head = log.head()
    if head is None:
        raise NotFoundError(
            f"{store.uri(log.prefix)} has no log: no landing zone has added to the dataset {name}, so there is nothing to "
            "compact. `recsys etl --landing FOLDER` adds files."
        )
    files = PartFiles(store, work_dir / "parts")
    state = landed_state(files, name, head.version)
    is_one = len(state.layout.parts) == 1 and all(len(ids.files) <= 1 for ids in state.layout.ids.values())
    if is_one or not (force or is_due(state.layout, settings)):
        files.remove_unused(state.layout)
        return load_dataset_ref(store, name, head.version)
    number = head.number + 1
    with scratch_folder(work_dir) as scratch:
        digest = EventDigest()
        with ScratchFile(scratch / "compacted.parquet", part_schema(state.properties), extent_of=Columns.TIME) as compacted:
            for chunk in merged_chunks(files, state.layout):
                compacted.write(chunk)
                digest = digest + EventDigest.of(chunk)
        if digest != state.layout.events:
            raise VersionCorruptError(
                f"The parts of {name}/{head.version} do not hold the events that its manifest records; nothing was "
                "compacted. Ingest the landing zone again into another store."
            )
        parts = PartStore(store, name, number)
        part = parts.part(compacted)
    layout = replace(
        state.layout,
        parts=(part,),
        superseded=kept_superseded(parts, superseded_events(files, state.layout, state.properties)),
        ids={column: compacted_map(files, parts, ids, column) for column, ids in state.layout.ids.items()},
    )
    content = head.version.partition("-")[0]
    manifest = landed_manifest(name, number, content, replace(state, layout=layout), {}, head.watermark)
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    log.append(LogEntry(number, "compact", name, manifest["version"], head.watermark, when, manifest))
    files.remove_unused(layout)
    return load_dataset_ref(store, name, manifest["version"])
