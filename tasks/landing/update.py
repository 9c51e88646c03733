"""The state of a dataset before and after a run: how its parts and tables grow, and the account of each file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import NotFoundError
from configs.settings import LandingSettings
from infra.storage import Store
from tasks.datasets import (
    EventDigest,
    FileAccount,
    LandedState,
    Layout,
    Part,
    PartFiles,
    StoredFile,
    list_datasets,
    merged_events,
    read_manifest,
    store_file,
    store_frame,
)
from tasks.ingest import TABLES, ItemModel, Kind, UserModel, described, public, rated, seeded
from tasks.landing.arrivals import ReadFile
from tasks.landing.new_events import FileCounts, add_events

__all__ = ["extended", "starting_state", "state_of"]

MODELS: dict[Kind, type[ItemModel] | type[UserModel]] = {"items": ItemModel, "users": UserModel}


def state_of(store: Store, files: PartFiles, name: str, version: str) -> LandedState:
    """Load the state of a version that a landing zone made."""
    manifest = read_manifest(store, name, version)
    layout = Layout.from_dict(manifest["layout"])
    return LandedState(
        layout=layout,
        items=files.frame(layout.items),
        users=files.frame(layout.users),
        first=manifest["first"],
        last=manifest["last"],
        parents=(f"{name}/{version}",),
    )


def starting_state(store: Store, files: PartFiles, name: str, settings: LandingSettings) -> LandedState | None:
    """Load the release that the first files are added to, as set by `landing.base`, or None if they start a new dataset.

    Raises:
        NotFoundError: landing.base names a version that is not stored.
    """
    if settings.base == "none":
        return None
    releases = [ref for ref in list_datasets(store) if ref.name == name and ref.number == 0]
    if settings.base != "newest":
        releases = [ref for ref in releases if ref.version == settings.base]
        if not releases:
            raise NotFoundError(
                f"landing.base is {settings.base}, but {store.uri('datasets')} has no version {name}/{settings.base} that was "
                "made from a release. `recsys data list` lists the stored versions."
            )
    if not releases:
        return None
    ref = releases[-1]
    manifest = read_manifest(store, name, ref.version)
    stored = {
        table: StoredFile(f"{ref.prefix}/{table}.parquet", manifest["files"][f"{table}.parquet"], 0)
        for table in ("interactions", "items", "users")
    }
    events = StoredFile(stored["interactions"].key, stored["interactions"].sha256, ref.rows)
    base = Layout(
        parts=(Part(events, None, ref.first, ref.last),),
        items=stored["items"],
        users=stored["users"],
        base_rows=0,
        events=EventDigest(),
    )
    frame = merged_events(files, base)
    layout = Layout(
        parts=base.parts,
        items=base.items,
        users=base.users,
        base_rows=int(frame["row"].max()) + 1,
        events=EventDigest.of(frame),
    )
    return LandedState(
        layout=layout,
        items=seeded("items", files.frame(layout.items), np.unique(frame["movie_id"].to_numpy(np.int64))),
        users=seeded("users", files.frame(layout.users), np.unique(frame["user_id"].to_numpy(np.int64))),
        first=ref.first,
        last=ref.last,
        parents=(f"{name}/{ref.version}",),
        is_release=True,
    )


def extended(
    store: Store,
    files: PartFiles,
    name: str,
    number: int,
    before: LandedState | None,
    read: list[ReadFile],
    watermark: int,
    memory_rows: int,
    scratch: Path,
) -> tuple[LandedState | None, tuple[FileAccount, ...]]:
    """Add the files' rows to the dataset, and store its new objects.

    Args:
        number: The number of the coming log entry.
        watermark: UTC seconds. Older events count as late.

    Returns:
        The new state, or None if the dataset would have no events, and an account of each file.
    """
    added = add_events(
        files,
        before.layout if before else None,
        [each.events for each in read if each.events is not None],
        (_rated(before, "users"), _rated(before, "items")),
        watermark,
        memory_rows,
        scratch,
    )
    tables: dict[Kind, pd.DataFrame] = {}
    told: dict[int, int] = {}
    for kind in TABLES:
        ids = added.movies if kind == "items" else added.users
        table = rated(kind, _table(before, kind) if before else seeded(kind, None, ids), ids)
        tables[kind], counts = _with_descriptions(kind, table, read)
        told |= counts
    accounts = tuple(_account(each, added.by_file.get(each.ordinal, FileCounts()), told.get(each.ordinal, 0)) for each in read)
    parts = before.layout.parts if before else ()
    if added.rows:
        events = store_file(store, name, number, "events", added.path, added.rows)
        lost = added.comparison.removals if added.comparison else pd.DataFrame()
        removals = store_frame(store, name, number, "removals", lost) if len(lost) else None
        parts = (*parts, Part(events, removals, added.first, added.last))
    if not parts:
        return None, accounts
    gone = added.comparison.removed if added.comparison else EventDigest()
    layout = Layout(
        parts=parts,
        items=_store_table(store, name, number, "items", tables["items"], before),
        users=_store_table(store, name, number, "users", tables["users"], before),
        base_rows=before.layout.base_rows if before else 0,
        events=(before.layout.events if before else EventDigest()) + added.digest - gone,
    )
    kept = [before.first] if before and added.comparison is None else []
    if added.comparison is not None and added.comparison.first is not None:
        kept = [added.comparison.first]
    first = min([*kept, *([added.first] if added.rows else [])])
    last = max([*([before.last] if before else []), *([added.last] if added.rows else [])])
    after = LandedState(layout, tables["items"], tables["users"], first, last, before.parents if before else ())
    return after, accounts


def _table(state: LandedState, kind: Kind) -> pd.DataFrame:
    return state.items if kind == "items" else state.users


def _rated(state: LandedState | None, kind: Kind) -> npt.NDArray[np.int64]:
    if state is None:
        return np.empty(0, dtype=np.int64)
    table = _table(state, kind)
    ids: npt.NDArray[np.int64] = table.loc[table["rated"], TABLES[kind].id].to_numpy(np.int64)
    return ids


def _with_descriptions(kind: Kind, table: pd.DataFrame, read: list[ReadFile]) -> tuple[pd.DataFrame, dict[int, int]]:
    """Apply the files' descriptions to the table. Returns the table, and the applied rows of each file (by ordinal)."""
    frames = [
        each.descriptions.frame.assign(ordinal=each.ordinal)
        for each in read
        if each.kind == kind and each.descriptions is not None
    ]
    if not frames:
        return table, {}
    told = pd.concat(frames, ignore_index=True)
    updated, counts = described(kind, table, told.drop(columns="ordinal"))
    return updated if counts.any() else table, {
        int(str(ordinal)): int(found) for ordinal, found in pd.Series(counts).groupby(told["ordinal"]).sum().items()
    }


def _store_table(store: Store, name: str, number: int, kind: Kind, table: pd.DataFrame, before: LandedState | None) -> StoredFile:
    """Store the table, or return the object of the previous version if nothing has changed."""
    if before is not None and not before.is_release and table is _table(before, kind):
        return before.layout.items if kind == "items" else before.layout.users
    MODELS[kind].validate(public(kind, table))
    return store_frame(store, name, number, kind, table)


def _account(read: ReadFile, events: FileCounts, told: int) -> FileAccount:
    accepted = events.accepted if read.kind == "events" else told
    return FileAccount(
        file=read.delivery.name,
        sha256=read.sha256,
        kind=read.kind,
        modified_ns=read.delivery.modified_ns,
        size=read.delivery.size,
        status="quarantined" if read.why else "accepted",
        rows=read.rows,
        accepted=accepted,
        duplicates=read.good - accepted,
        quarantined=read.rows - read.good,
        reasons=read.reasons,
        corrections=events.corrections,
        late=events.late,
        new_users=events.new_users,
        new_items=events.new_items,
        extra_columns=read.extra_columns,
        why=read.why,
    )
