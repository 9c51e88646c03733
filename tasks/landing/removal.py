"""Take events back out of a dataset: a new version without them, and a record that keeps later runs from adding them again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from configs.clock import horizon
from configs.errors import AlreadyExistsError, DataRefusedError, NotFoundError
from configs.settings import LandingSettings
from infra.erasures import erased_users
from infra.storage import Store
from models.columns import Columns
from tasks.datasets import (
    HAPPENED,
    DatasetRef,
    EventDigest,
    IdMap,
    LandedState,
    LandingLog,
    Layout,
    LogEntry,
    PartFiles,
    PartStore,
    ReleaseVersion,
    Removal,
    compacted_map,
    content_of,
    extended_map,
    forget_histories,
    history_keys,
    landed_manifest,
    load_dataset_ref,
    map_entries,
    merged_chunks,
    origin_of,
    part_schema,
    read_manifest,
    renew_histories,
    superseded_events,
)
from tasks.ingest import ANY_TIME, TABLES, Kind, described, forgotten, seeded, with_events
from tasks.landing.compaction import kept_superseded
from tasks.landing.merge import compare
from tasks.landing.scratch import ScratchFile, scratch_folder
from tasks.landing.state import landed_state

__all__ = ["remove", "undo_removal"]

Ids = npt.NDArray[np.int64]
KIND_OF: dict[str, Kind] = {Columns.USER: "users", Columns.ITEM: "items"}


def remove(
    store: Store, name: str, removal: Removal, settings: LandingSettings, work_dir: Path, now: float
) -> tuple[DatasetRef, LogEntry]:
    """Make a version of the dataset without what `removal` names.

    Returns:
        The version, and the log entry that records the removal.

    Raises:
        NotFoundError: No landing zone has added to the dataset, or it has nothing that `removal` names.
        DataRefusedError: No event would be left, or an earlier version of the product did not record the file of each event.
        AlreadyExistsError: Other runs were faster `landing.max_retries_on_conflict` times.
    """
    return _recorded(store, name, settings, lambda log: _removed(log, removal, settings, work_dir, now))


def undo_removal(
    store: Store, name: str, removal: Removal, settings: LandingSettings, work_dir: Path, now: float
) -> tuple[DatasetRef, LogEntry]:
    """Lift the removal of the log entry `removal.undoes`.

    What it took out comes back from the version before it, if that is still stored. The next run over the landing zone reads its
    files once more, because later ones may hold more of it.

    Returns:
        The version, and the log entry that records the undoing.

    Raises:
        NotFoundError: There is no removal with this number, or it was undone.
        AlreadyExistsError: Other runs were faster `landing.max_retries_on_conflict` times.
    """

    def restored(log: LandingLog) -> LogEntry:
        _head(log)  # it completes the entry of a killed run
        current = log.removals()
        if removal.undoes not in current:
            listed = ", ".join(f"{number} ({each.what})" for number, each in current.items()) or "none"
            raise NotFoundError(f"{name} has no removal {removal.undoes} that could be undone. Current removals: {listed}.")
        return _restored(log, removal, current[removal.undoes], work_dir, now)

    return _recorded(store, name, settings, restored)


def _recorded(
    store: Store, name: str, settings: LandingSettings, write: Callable[[LandingLog], LogEntry]
) -> tuple[DatasetRef, LogEntry]:
    """Write the next version and log entry, again on the newest state if another run was faster.

    Then the stored histories are those of the newest version, also if there was nothing to write: an earlier run may have failed
    before it renewed them.
    """
    stored = bool(history_keys(store, name))
    try:
        for _ in range(settings.max_retries_on_conflict):
            with suppress(AlreadyExistsError):
                entry = write(LandingLog(store, name))
                return load_dataset_ref(store, name, entry.version), entry
        raise _raced(name, settings)
    finally:
        renew_histories(store, name, needed=stored)


def _restored(log: LandingLog, removal: Removal, undone: Removal, work_dir: Path, now: float) -> LogEntry:
    """Write the version and the log entry. Raises AlreadyExistsError if another run has taken its number."""
    head, files = _head(log), PartFiles(log.store, work_dir / "parts")
    unchanged = LogEntry(head.number + 1, "remove", log.dataset, head.version, head.watermark, _iso(now), None, removal=removal)
    manifest = log.entries(after=removal.undoes - 1)[0].manifest or {}
    _, _, before = str(manifest.get("parents", [""])[0]).partition("/")
    try:
        earlier = landed_state(files, log.dataset, before)
    except NotFoundError:  # pruned
        log.append(unchanged)
        return unchanged
    _, origins = _located(log, undone)
    state, parts = landed_state(files, log.dataset, head.version), PartStore(log.store, log.dataset, head.number + 1)
    gone = pd.concat(
        [
            pd.DataFrame(chunk, copy=False)[undone.holds(chunk) | np.isin(chunk[Columns.ORIGIN], origins)]
            for chunk in merged_chunks(files, earlier.layout)
        ],
        ignore_index=True,
    )
    erased = np.array(sorted(erased_users(log.store)), np.int64)  # they do not come back
    gone = gone[~np.isin(gone[Columns.USER], erased)].reset_index(drop=True)
    layout, first, last, won = state.layout, state.first, state.last, gone
    if len(gone):
        found = compare(files, layout, gone, lambda each: log.written(each, {}), state.properties)
        won = gone[found.wins]
        first = min(found.first, int(won[Columns.TIME].min())) if len(won) else first
        last = max(last, int(won[Columns.TIME].max())) if len(won) else last
    tables: dict[Kind, pd.DataFrame] = {}
    cells = 0
    for kind, known in TABLES.items():
        table = with_events(kind, state.table(kind), np.unique(won[known.id].to_numpy(np.int64)))
        provided = _taken_out(kind, earlier.table(kind), undone, origins)
        if kind == "users":
            provided = provided[~provided[known.id].isin(erased)].reset_index(drop=True)
        tables[kind], counts = described(kind, table, provided, ANY_TIME)
        cells += int(counts.sum())
    if not len(won) + cells:
        log.append(unchanged)
        return unchanged
    if len(won):
        with scratch_folder(work_dir) as scratch:
            schema = part_schema(state.properties)
            with ScratchFile(scratch / "restored.parquet", schema, extent_of=Columns.TIME) as part:
                part.write(won[schema.names])
            layout = replace(layout, parts=(*layout.parts, parts.part(part, found.removals)))
        layout = replace(layout, events=layout.events + EventDigest.of(won) - found.removed)
    happened = pd.concat([_superseded(files, earlier, undone, origins, whether=True), gone.drop(won.index)[list(HAPPENED)]])
    happened = happened.head(0) if state.properties.keeps_repeats else happened[~happened[Columns.USER].isin(erased)]
    layout = replace(
        layout,
        items=parts.table("items", tables["items"]),
        users=parts.table("users", tables["users"]),
        superseded=(*layout.superseded, *kept_superseded(parts, happened)),
        ids={column: _restored_map(files, parts, column, state, earlier, tables) for column in state.properties.text_columns},
    )
    times = won[Columns.TIME].to_numpy(np.int64)
    reach = max(state.horizon, horizon(times, now)) if (times <= now).any() else state.horizon
    after = replace(state, layout=layout, items=tables["items"], users=tables["users"], first=first, last=last, horizon=reach)
    return _appended(log, head, after, replace(removal, events=len(won)), head.watermark, now)


def _restored_map(
    files: PartFiles, parts: PartStore, column: str, state: LandedState, earlier: LandedState, tables: dict[Kind, pd.DataFrame]
) -> IdMap:
    """Return the id map of a column with the ids that come back. Their texts are those of the version before the removal."""
    kind = KIND_OF[column]
    back = np.setdiff1d(tables[kind][column].to_numpy(np.int64), state.table(kind)[column].to_numpy(np.int64))
    return extended_map(parts, state.layout.ids[column], column, map_entries(files, earlier.layout.ids[column], column, back))


def _taken_out(kind: Kind, table: pd.DataFrame, removal: Removal, origins: Ids) -> pd.DataFrame:
    """Return the descriptions that a removal took out of a table."""
    known = TABLES[kind]
    gone = removal.describes(kind)
    is_out = table[known.id] == (-1 if gone is None else gone)
    for name in known.described_in(table):
        is_out |= np.isin(table[Columns.origin_of(name)], origins)
    return table[is_out].reset_index(drop=True)


def _removed(log: LandingLog, removal: Removal, settings: LandingSettings, work_dir: Path, now: float) -> LogEntry:
    """Write the version and the log entry. Raises AlreadyExistsError if another run has taken its number."""
    head, (removal, origins) = _head(log), _located(log, removal)
    files, parts = PartFiles(log.store, work_dir / "parts"), PartStore(log.store, log.dataset, head.number + 1)
    before = landed_state(files, log.dataset, head.version)
    with scratch_folder(work_dir) as scratch:
        part = ScratchFile(scratch / "kept.parquet", part_schema(before.properties), extent_of=Columns.TIME)
        digest, ids = _write_kept(files, before.layout, removal, origins, part)
        if not part.rows:
            raise DataRefusedError(
                f"{log.dataset} would have no event left; nothing was removed. Start another dataset (data.dataset) instead."
            )
        tables: dict[Kind, pd.DataFrame] = {}
        cells = 0
        for kind in ids:
            base = _base(log, kind) if removal.file else None
            tables[kind], count = forgotten(kind, before.table(kind), ids[kind], removal.describes(kind), origins, base)
            cells += count
        reach = _reach(before.horizon, pq.read_table(part.path, columns=[Columns.TIME]).column(0).to_numpy(), now)
        events = before.layout.rows - part.rows
        if not events + cells:
            raise NotFoundError(f"{log.dataset}/{head.version} has nothing of {removal.what}; nothing was removed.")
        layout = replace(
            before.layout,
            parts=(parts.part(part),),
            items=parts.table("items", tables["items"]),
            users=parts.table("users", tables["users"]),
            events=digest,
            superseded=kept_superseded(parts, _superseded(files, before, removal, origins, whether=False)),
            ids={
                column: compacted_map(files, parts, ids_of, column, tables[KIND_OF[column]][column].to_numpy(np.int64))
                for column, ids_of in before.layout.ids.items()
            },
        )
    after = replace(
        before,
        layout=layout,
        items=tables["items"],
        users=tables["users"],
        first=part.first,
        last=part.last,
        horizon=reach,
        is_release=False,
    )
    watermark = min(head.watermark, reach - settings.allowed_lateness_s)  # a wild time may have moved it
    forget_histories(log.store, log.dataset)
    return _appended(log, head, after, replace(removal, events=events), watermark, now)


def _reach(before: int, times: Ids, now: float) -> int:
    """Return the UTC seconds that the events reach which stay. That is less than before if the event that reached so far is gone."""
    return before if (times == before).any() else min(before, horizon(times, now))


def _write_kept(
    files: PartFiles, layout: Layout, removal: Removal, origins: Ids, part: ScratchFile
) -> tuple[EventDigest, dict[Kind, Ids]]:
    """Write the events that stay. Returns their digest, and the users and items that have events."""
    digest = EventDigest()
    users: list[Ids] = [np.empty(0, dtype=np.int64)]
    items: list[Ids] = [np.empty(0, dtype=np.int64)]
    with part:
        for chunk in merged_chunks(files, layout):
            kept = ~(removal.holds(chunk) | np.isin(chunk[Columns.ORIGIN], origins))
            stays = {column: cells[kept] for column, cells in chunk.items()}
            part.write(stays)
            digest = digest + EventDigest.of(stays)
            users.append(np.unique(stays[Columns.USER]))
            items.append(np.unique(stays[Columns.ITEM]))
    return digest, {"items": np.unique(np.concatenate(items)), "users": np.unique(np.concatenate(users))}


def _superseded(files: PartFiles, state: LandedState, removal: Removal, origins: Ids, *, whether: bool) -> pd.DataFrame:
    """Return the superseded events that a removal takes out, or those that it leaves (`whether` is False)."""
    superseded = superseded_events(files, state.layout, state.properties)
    found: pd.DataFrame = superseded[(removal.holds(superseded) | np.isin(superseded[Columns.ORIGIN], origins)) == whether]
    return found


def _appended(log: LandingLog, head: LogEntry, after: LandedState, removal: Removal, watermark: int, now: float) -> LogEntry:
    content = content_of(after)
    number = head.number + 1
    manifest: dict[str, Any] = landed_manifest(log.dataset, number, content, after, {}, watermark)
    entry = LogEntry(number, "remove", log.dataset, manifest["version"], watermark, _iso(now), manifest, removal=removal)
    log.append(entry)
    return entry


def _located(log: LandingLog, removal: Removal) -> tuple[Removal, Ids]:
    """Return the removal with the sha256 of its file, and the origins of the file's events."""
    if not removal.file:
        return removal, np.empty(0, dtype=np.int64)
    accounts = [(entry.number, account) for entry in log.entries() for account in entry.accounts]
    named = [account.sha256 for _, account in accounts if account.file == removal.file]
    if not named:
        raise NotFoundError(
            f"No file {removal.file} has landed for {log.dataset}. `recsys data files --last 100` lists the files of the newest runs."
        )
    own = [(number, account) for number, account in accounts if account.sha256 == named[-1] and account.accepted]
    if any(account.ordinal < 0 for _, account in own):
        raise DataRefusedError(
            f"The file {removal.file} landed before the product recorded the file of each event, so its events are unknown. Remove "
            "them by --user and --item, or land the zone again as another dataset (data.dataset) without the file."
        )
    origins = np.array([origin_of(number, account.ordinal) for number, account in own], dtype=np.int64)
    return replace(removal, sha256=named[-1]), origins


def _base(log: LandingLog, kind: Kind) -> pd.DataFrame | None:
    """Return the descriptions of the release that the first files were added to, or None if there is none or it was pruned."""
    manifest = log.entries()[0].manifest or {"parents": []}
    for parent in manifest["parents"]:
        name, _, version = parent.partition("/")
        try:
            table = ReleaseVersion(log.store, name, version, read_manifest(log.store, name, version)).stored(kind)
        except NotFoundError:
            return None
        return seeded(kind, table, np.empty(0, dtype=np.int64))
    return None


def _head(log: LandingLog) -> LogEntry:
    head = log.head()
    if head is None:
        raise NotFoundError(
            f"No landing zone has added to the dataset {log.dataset}, so it is made of a release. Correct the release's files and "
            "run `recsys etl`."
        )
    return head


def _iso(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


def _raced(name: str, settings: LandingSettings) -> AlreadyExistsError:
    return AlreadyExistsError(f"Other runs added to {name} {settings.max_retries_on_conflict} times meanwhile. Run again.")
