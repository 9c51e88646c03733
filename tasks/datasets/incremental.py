"""Versions that a landing zone makes of parts.

A version's name is `<content>-<layout>`. The first 12 hex digits stand for its content: items, users, text ids, and events in any
order and any parts. The last 12 stand for the objects it is made of. Versions with the same content are the same data in other
parts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from configs.clock import wall_clock
from configs.errors import VersionCorruptError
from infra.storage import Store
from models.columns import Columns
from tasks.datasets.content_digest import EventDigest, IdDigest, plain_cells
from tasks.datasets.id_maps import map_batches, map_entries
from tasks.datasets.landed_state import LandedState
from tasks.datasets.layout import IdMap, Layout
from tasks.datasets.part_events import merged_events, superseded_events
from tasks.datasets.part_files import PartFiles
from tasks.ingest import Kind, build_features, public, with_times
from tasks.tables import ID_TABLES, DatasetProperties

__all__ = ["IncrementalVersion", "content_of", "landed_manifest"]


@dataclass(frozen=True)
class IncrementalVersion:
    """A version made of parts, which are merged when it is read."""

    FORMAT: ClassVar[int] = 2  # of its manifest

    store: Store
    name: str
    version: str
    manifest: dict[str, Any]

    @cached_property
    def layout(self) -> Layout:
        return Layout.from_dict(self.manifest["layout"])

    @property
    def properties(self) -> DatasetProperties:
        return DatasetProperties.from_manifest(self.manifest)

    def keys(self) -> set[str]:
        """Return the keys of its objects, without the manifest."""
        return {file.key for file in self.layout.files}

    def state(self, files: PartFiles) -> LandedState:
        """Load what adding later files needs. Raises VersionCorruptError if an object differs from the manifest."""
        return LandedState(
            layout=self.layout,
            items=with_times("items", files.frame(self.layout.items)),
            users=with_times("users", files.frame(self.layout.users)),
            first=self.manifest["first"],
            last=self.manifest["last"],
            parents=(f"{self.name}/{self.version}",),
            horizon=self.manifest.get("horizon", self.manifest["last"]),
            properties=self.properties,
        )

    def table(self, table: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the interactions, items, users, features or an id map. The features are computed.

        Raises:
            VersionCorruptError: An object differs from the manifest.
            KeyError: There is no such table.
        """
        found = self._table(table)
        return found if columns is None else found[columns]

    def verify(self) -> None:
        """Check the objects and their content against the version's name. Raises VersionCorruptError if they do not match."""
        files = PartFiles(self.store)
        events = EventDigest.of(merged_events(files, self.layout))
        ids = {column: _digest_of(files, each) for column, each in self.layout.ids.items()}
        # The tables count as they are stored: those of earlier versions of the product have other columns.
        items, users = files.frame(self.layout.items), files.frame(self.layout.users)
        content = content_of(replace(self.state(files), layout=replace(self.layout, events=events), items=items, users=users))
        said = {column: each.digest for column, each in self.layout.ids.items()}
        if events != self.layout.events or ids != said or _version_name(content, self.layout) != self.version:
            raise VersionCorruptError(
                f"The objects of {self.store.uri(f'datasets/{self.name}/{self.version}')} do not match the version's name: they and "
                "the manifest were changed after they were stored. Delete the version and ingest again. Do not promote anything "
                "that was trained on it."
            )

    def _table(self, table: str) -> pd.DataFrame:
        files = PartFiles(self.store)
        if table == "interactions":
            return merged_events(files, self.layout)
        if table == "features":
            return build_features(merged_events(files, self.layout), superseded_events(files, self.layout, self.properties))
        for column, name in ID_TABLES.items():
            if table == name:
                found: pd.DataFrame = map_entries(files, self.layout.ids[column], column).to_pandas()
                return found
        kinds: dict[str, Kind] = {"items": "items", "users": "users"}
        return public(kinds[table], files.frame(getattr(self.layout, table)))


def content_of(state: LandedState) -> str:
    """Return 12 hex digits of a version's content. `row`, the order of a release's ties, is not part of the content."""
    digest = hashlib.sha256(f"landed format {IncrementalVersion.FORMAT} {state.layout.events}".encode())
    for said in (state.properties.to_manifest(), {column: each.digest.word for column, each in state.layout.ids.items()}):
        if said:  # the digest of content without them is that of earlier versions of the product
            digest.update(json.dumps(said, sort_keys=True).encode())
    for name, frame in (("items", public("items", state.items)), ("users", public("users", state.users))):
        digest.update(f"{name} {[Columns.digested_as(column) for column in frame.columns]}".encode())
        for column in frame.columns:
            digest.update(np.ascontiguousarray(pd.util.hash_array(plain_cells(frame[column]))).tobytes())
    return digest.hexdigest()[:12]


def landed_manifest(
    name: str, number: int, content: str, state: LandedState, sources: dict[str, str], watermark: int
) -> dict[str, Any]:
    """Return the manifest of the version that log entry `number` makes."""
    layout = state.layout
    return {
        "format": IncrementalVersion.FORMAT,
        "name": name,
        "version": _version_name(content, layout),
        "content": content,
        "number": number,
        "created": round(wall_clock(), 3),
        "rows": layout.rows,
        "users": int(state.users[Columns.HAS_EVENTS].sum()),
        "items": int(state.items[Columns.HAS_EVENTS].sum()),
        "first": state.first,
        "last": state.last,
        "horizon": state.horizon,
        "watermark": watermark,
        **state.properties.to_manifest(),
        "parents": list(state.parents),
        "source_hashes": sources,
        "layout": layout.to_dict(),
    }


def _digest_of(files: PartFiles, ids: IdMap) -> IdDigest:
    return sum((IdDigest.of(numbers, texts) for numbers, texts in map_batches(files, ids)), start=IdDigest())


def _version_name(content: str, layout: Layout) -> str:
    return f"{content}-{layout.digest}"
