"""Make the next state of a dataset: its parts and tables grow, and each file gets an account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from models.columns import Columns
from tasks.datasets import FileAccount, IdMap, LandedState, PartStore, StoredFile, extended_map, origin_of
from tasks.ingest import TABLES, Kind, described, public, with_events
from tasks.landing.merge import AddedEvents, FileCounts
from tasks.landing.new_files import NewFile
from tasks.tables import IdCollector, ItemModel, UserModel, id_schema

__all__ = ["next_state"]

MAP_ROWS = 1 << 21  # texts in memory at once
MODELS: dict[Kind, type[ItemModel] | type[UserModel]] = {"items": ItemModel, "users": UserModel}


def next_state(
    before: LandedState,
    added: AddedEvents,
    new: list[NewFile],
    parts: PartStore,
    latest: int,
    ids: Mapping[str, IdCollector],
) -> tuple[LandedState, tuple[FileAccount, ...]]:
    """Add the files' rows to the dataset, and store its new objects.

    Args:
        before: The dataset.
        added: The events of the files, merged.
        new: The files.
        parts: Receives the new objects.
        latest: The greatest valid time of a description, in UTC seconds.
        ids: The text ids of the files, by column.

    Returns:
        The new state, which may be empty, and an account of each file.
    """
    items, counts = _described("items", before, added, new, parts.number, latest)
    users, more_counts = _described("users", before, added, new, parts.number, latest)
    provided = counts | more_counts
    accounts = tuple(_account(file, added.by_file.get(file.ordinal, FileCounts()), provided.get(file.ordinal, 0)) for file in new)
    gone = added.comparison
    layout, first, last = before.layout, gone.first, before.last
    if added.part.rows:
        layout = replace(layout, parts=(*layout.parts, parts.part(added.part, gone.removals)))
        first, last = min(first, added.part.first), max(last, added.part.last)
    if not layout.parts:
        return before, accounts
    if len(added.superseded):
        layout = replace(layout, superseded=(*layout.superseded, parts.table("superseded", added.superseded)))
    after = replace(before, items=items, users=users, first=first, last=last, is_release=False)
    layout = replace(
        layout,
        items=_stored("items", before, after, parts),
        users=_stored("users", before, after, parts),
        events=layout.events + added.digest - gone.removed,
        ids={column: _map_of(column, before, after, ids[column], parts) for column in before.properties.text_columns},
    )
    return replace(after, layout=layout), accounts


def _map_of(column: str, before: LandedState, after: LandedState, ids: IdCollector, parts: PartStore) -> IdMap:
    """Return the id map of a column: those of its items (users) that are new follow in a file of their own."""
    kind: Kind = "users" if column == Columns.USER else "items"
    known = before.layout.ids.get(column, IdMap())
    new = np.setdiff1d(after.table(kind)[column].to_numpy(np.int64), before.table(kind)[column].to_numpy(np.int64))
    pieces = [
        pa.table([pa.array(numbers), texts], schema=id_schema(column)) for numbers, texts in ids.sorted(new, memory_rows=MAP_ROWS)
    ]
    return extended_map(parts, known, column, pa.concat_tables([id_schema(column).empty_table(), *pieces]))


def _described(
    kind: Kind, before: LandedState, added: AddedEvents, new: list[NewFile], number: int, latest: int
) -> tuple[pd.DataFrame, dict[int, int]]:
    """Return the table with the new ids and the files' descriptions, and the applied rows of each file (by ordinal)."""
    table = with_events(kind, before.table(kind), added.items if kind == "items" else added.users)
    files = [(file.ordinal, file.descriptions.frame) for file in new if file.kind == kind and file.descriptions is not None]
    if not files:
        return table, {}
    ordinals = pd.Series([ordinal for ordinal, frame in files for _ in range(len(frame))], dtype="int64")
    provided = pd.concat([frame for _, frame in files], ignore_index=True)
    names = TABLES[kind].described_in(provided)
    origins = {Columns.origin_of(name): origin_of(number, 0) + ordinals for name in names}
    updated, counts = described(kind, table, provided.assign(**origins), latest)
    by_file = pd.Series(counts).groupby(ordinals).sum()
    return updated if counts.any() else table, {int(str(ordinal)): int(found) for ordinal, found in by_file.items()}


def _stored(kind: Kind, before: LandedState, after: LandedState, parts: PartStore) -> StoredFile:
    """Store a table, or return the object of the previous version if nothing has changed."""
    table = after.table(kind)
    if not before.is_empty and not before.is_release and table is before.table(kind):
        return before.stored(kind)
    MODELS[kind].validate(public(kind, table))
    return parts.table(kind, table)


def _account(new: NewFile, events: FileCounts, provided: int) -> FileAccount:
    accepted = events.accepted if new.kind == "events" else provided
    return FileAccount(
        file=new.file.name,
        sha256=new.sha256,
        kind=new.kind,
        modified_ns=new.file.modified_ns,
        size=new.file.size,
        status="quarantined" if new.why else "accepted",
        rows=new.rows,
        accepted=accepted,
        duplicates=new.good - accepted,
        quarantined=new.rows - new.good - new.removed - new.left_out,
        removed=new.removed,
        left_out=new.left_out,
        written=new.written,
        reasons=new.reasons,
        corrections=events.corrections,
        late=events.late,
        new_users=events.new_users,
        new_items=events.new_items,
        extra_columns=new.extra_columns,
        why=new.why,
        ordinal=new.ordinal,
    )
