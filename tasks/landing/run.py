"""Ingest a landing zone: the new files become the next version of the dataset, and each file is added once.

The content of the dataset depends only on the files and their times (and on the release that they were added to). It depends neither
on the order in which the files are read nor on the runs that read them. The newest event of a user and item counts
(`tasks.ingest.merge.deduplicate_latest`), and so does the newest description of an item or user (`tasks.ingest.metadata`). One
case is left: if an event is delivered again unchanged, and a later run reads another rating of its second from a file that is older
than that delivery, the other one counts, because the dataset keeps the time of the first delivery.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from configs.clock import horizon
from configs.errors import AlreadyExistsError, DataRefusedError, SourceError
from infra.landing_zone import LandingZone
from infra.storage import Store
from models.columns import Columns
from tasks.datasets import (
    DatasetRef,
    FileAccount,
    LandedState,
    LandingLog,
    LogEntry,
    PartFiles,
    PartStore,
    content_of,
    landed_manifest,
    load_dataset_ref,
    map_batches,
)
from tasks.ingest import chunk_reader
from tasks.landing.ledger import Ledger
from tasks.landing.listing import Listing
from tasks.landing.merge import AddedEvents, EventMerge
from tasks.landing.new_files import NewFiles, ZoneReader
from tasks.landing.options import LandingOptions
from tasks.landing.scratch import scratch_folder
from tasks.landing.state import properties_before, state_before
from tasks.landing.update import next_state
from tasks.tables import joined_refusals

__all__ = ["Landing", "land"]


@dataclass(frozen=True)
class Landing:
    """The result of a run over a landing zone."""

    dataset: DatasetRef
    number: int  # of its log entry, or of the previous entry if nothing was new
    accounts: tuple[FileAccount, ...]
    waiting: dict[str, str]  # file -> why it is left for a later run
    known: int  # files whose content was added before, under any name
    watermark: int  # UTC seconds

    def refuse(self) -> None:
        """Raise DataRefusedError if files were read, but no row of them is good."""
        read = [account for account in self.accounts if account.status != "copy"]
        bad = [account for account in read if account.quarantined or account.status == "quarantined"]
        good = (account.accepted + account.duplicates + account.removed + account.left_out for account in read)
        if not bad or any(good):
            return
        files = "new file" if len(bad) == 1 else f"{len(bad)} new files"
        said = "; ".join(f"{account.file}: {account.remarks}".rstrip(".") for account in bad[:4])
        raise DataRefusedError(
            f"Nothing was added to {self.dataset.name}, because no row of the {files} is good. {said}. Deliver mended "
            "files. If a setting or a clock was wrong, mend it and run `recsys data retry`. Later runs go on without these files."
        )


def land(store: Store, zone: LandingZone, name: str, options: LandingOptions) -> Landing:
    """Add the zone's new files to the dataset `name`.

    Raises:
        SourceError: There is no dataset yet, and no file is ready.
        DataRefusedError: The dataset would have fewer than `validation.min_rows` events. The next run reads the files again.
        AlreadyExistsError: Other runs were faster `landing.max_retries_on_conflict` times.
    """
    races = options.landing.max_retries_on_conflict
    for _ in range(races):
        with suppress(AlreadyExistsError), scratch_folder(options.engine.work_dir) as scratch:
            run = LandingRun(store, zone, name, options, scratch)
            new = run.read()
            if not new.files and not (new.copies and run.has_dataset):
                return run.unchanged(new)
            after, accounts = run.merge(new)
            return run.commit(new, after, accounts) if accounts else run.unchanged(new)
    raise AlreadyExistsError(
        f"Other runs added files to {name} {races} times while this one was reading. No file is lost: run again."
    )


class LandingRun:
    """One attempt to add the new files of a zone to a dataset. Another run may be faster."""

    def __init__(self, store: Store, zone: LandingZone, name: str, options: LandingOptions, scratch: Path) -> None:
        self._store, self._zone, self._name, self._options, self._scratch = store, zone, name, options, scratch
        self._log = LandingLog(store, name)
        self._head = self._log.head()
        self._number = self._head.number + 1 if self._head else 1
        self._watermark = self._head.watermark if self._head else 0
        self._listing = Listing(store, self._log.listing_key(zone.uri()))
        self._ledger = Ledger(self._log, retry_quarantined=options.retry_quarantined)
        self._parts = PartFiles(store, options.engine.work_dir / "parts")
        self._before: LandedState | None = None

    def read(self) -> NewFiles:
        """Read the files that were not added before. Raises SettingsError if `etl.engine` is a cluster that does not answer."""
        with chunk_reader(self._options.engine, self._scratch) as chunks:
            stored = properties_before(self._store, self._name, self._head, self._options.landing)
            refused: dict[str, frozenset[str]] = {}
            while True:  # a text whose number belongs to another text is found once all files are read
                ledger = Ledger(self._log, retry_quarantined=self._options.retry_quarantined)
                reader = ZoneReader(self._zone, self._listing, ledger, self._options, self._scratch, chunks)
                new = reader.read(stored, refused)
                found = self._refused(new)
                if not found:
                    self._ledger = ledger
                    return new
                refused = joined_refusals(refused, found)

    def _refused(self, new: NewFiles) -> dict[str, frozenset[str]]:
        """Return the text ids of new files, by column, whose number belongs to another text of them or of the dataset."""
        for column, ids in new.ids.by_column.items():
            if len(ids):
                for numbers, texts in map_batches(self._parts, self._state(new).layout.ids[column]):
                    ids.compare(numbers, texts)
        return new.ids.refused

    def _state(self, new: NewFiles) -> LandedState:
        """Return the dataset before this run."""
        if self._before is None:
            self._before = state_before(self._parts, self._name, self._head, self._options.landing, new.properties)
        return self._before

    @property
    def has_dataset(self) -> bool:
        return self._head is not None

    def unchanged(self, new: NewFiles) -> Landing:
        """Return the result if no file is new. Raises SourceError if there is no dataset yet."""
        self._listing.save()
        if self._head is None:
            raise _nothing_yet(self._zone, new.waiting)
        dataset = load_dataset_ref(self._store, self._name, self._head.version)
        return Landing(dataset, self._head.number, (), new.waiting, new.known, self._watermark)

    def merge(self, new: NewFiles) -> tuple[LandedState, tuple[FileAccount, ...]]:
        """Store the parts and tables of the next version. Raises DataRefusedError if it would have too few events."""
        before = self._state(new)
        if self._head is None and not before.is_empty:
            self._watermark = self._complete_until(before.horizon)
        merge = EventMerge(
            before=before,
            files=self._parts,
            log=self._log,
            number=self._number,
            written={file.ordinal: file.written for file in new.files},
            watermark=self._watermark,
            memory_rows=self._options.engine.memory_rows,
            scratch=self._scratch,
        )
        added = merge.add([file.events for file in new.files if file.events is not None])
        latest = int(self._options.now) + self._options.validation.max_future_s
        parts = PartStore(self._store, self._name, self._number)
        after, accounts = next_state(before, added, new.files, parts, latest, new.ids.by_column)
        after = replace(after, horizon=self._reach(before, added))
        rows, min_rows = after.layout.rows, self._options.validation.min_rows
        if new.files and (after.is_empty or rows < min_rows):
            raise DataRefusedError(
                f"The dataset {self._name} would have {rows} events after {len(new.files)} new files of {self._zone.uri()}, fewer "
                f"than validation.min_rows = {min_rows}. Nothing was stored. The next run reads the files again. Add more files, or "
                "lower the setting for a small dataset."
            )
        return after, tuple(account for account in accounts if not self._is_as_before(account)) + tuple(new.copies)

    def _is_as_before(self, account: FileAccount) -> bool:
        """Return whether a file was retried in vain."""
        before = self._ledger.retried.get(account.id)
        return (
            before is not None
            and not account.accepted
            and (before.status, before.reasons, before.why, before.rows)
            == (
                account.status,
                account.reasons,
                account.why,
                account.rows,
            )
        )

    def commit(self, new: NewFiles, after: LandedState, accounts: tuple[FileAccount, ...]) -> Landing:
        """Write the log entry, which adds the files. Raises AlreadyExistsError if another run was faster."""
        stored = set(self._store.list(f"{self._log.prefix}/quarantine/"))
        for file in new.files:
            key = self._log.quarantine_key(file.sha256)
            if file.quarantine is not None and (file.reasons or key in stored):  # a retry may leave no bad row
                self._store.put(key, file.quarantine)
        content = content_of(after)
        watermark = self._complete_until(after.horizon)
        sources = {account.file: account.sha256 for account in accounts}
        manifest = landed_manifest(self._name, self._number, content, after, sources, watermark)
        version = manifest["version"]
        self._log.append(
            LogEntry(
                number=self._number,
                kind="ingest",
                dataset=self._name,
                version=version,
                watermark=watermark,
                when=datetime.fromtimestamp(self._options.now, UTC).isoformat(timespec="seconds"),
                manifest=None if self._head is not None and version == self._head.version else manifest,
                accounts=accounts,
            )
        )
        self._listing.save()
        self._parts.remove_unused(after.layout)
        dataset = load_dataset_ref(self._store, self._name, version)
        return Landing(dataset, self._number, accounts, new.waiting, new.known, watermark)

    def _reach(self, before: LandedState, added: AddedEvents) -> int:
        """Return the UTC seconds that the events reach. Those from the future say nothing about how far the others reach."""
        now = int(self._options.now)
        reach = min(before.horizon, now)
        if not added.part.rows:
            return reach
        times = pq.read_table(added.part.path, columns=[Columns.TIME]).column(0).to_numpy()
        return max(reach, horizon(times, now)) if (times <= now).any() else reach

    def _complete_until(self, horizon: int) -> int:
        """Return the watermark: it never falls, unless it is later than the time at which the newest events may have arrived."""
        lateness = self._options.landing.allowed_lateness_s
        return min(max(self._watermark, horizon - lateness), int(self._options.now) - lateness)


def _nothing_yet(zone: LandingZone, waiting: dict[str, str]) -> SourceError:
    said = "; ".join(f"{file}: {why}" for file, why in list(waiting.items())[:4])
    return SourceError(
        f"The landing zone {zone.uri()} has no file that is ready, and no dataset was made from it before. "
        + (
            f"Files that are waiting: {len(waiting)} ({said}). Run again later."
            if waiting
            else "Put event files there (CSV, CSV.gz, Parquet)."
        )
    )
