"""Ingest a landing zone: the new files become the next version of the dataset, and each file is added once.

The content of the dataset depends only on the set of files (and on the release that they were added to). It depends neither on
the order in which the files arrive nor on the runs that read them. The newest event of a user and movie counts
(`tasks.ingest.merge.settle`), and so does the newest description of an item or user (`tasks.ingest.metadata`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from configs.errors import AlreadyExistsError, DataRefusedError, SourceError
from configs.settings import EtlSettings, LandingSettings, ValidationSettings
from infra.landing_zone import LandingZone
from infra.storage import Store
from tasks.datasets import DatasetRef, FileAccount, LandingLog, LogEntry, PartFiles, content_of, landed_manifest, load_dataset_ref
from tasks.landing.arrivals import Listing, read_arrivals
from tasks.landing.scratch import scratch_folder
from tasks.landing.update import extended, starting_state, state_of

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


def land(
    store: Store,
    zone: LandingZone,
    name: str,
    validation: ValidationSettings,
    settings: LandingSettings,
    engine: EtlSettings,
    now: float,
    *,
    retry_quarantined: bool = False,
) -> Landing:
    """Add the zone's new files to the dataset `name`.

    Args:
        now: UTC seconds.
        retry_quarantined: Also read files again that were quarantined as a whole.

    Raises:
        SourceError: There is no dataset yet, and no file is ready.
        DataRefusedError: The dataset would have fewer than `validation.min_rows` events. The next run reads the files again.
        AlreadyExistsError: Other runs were faster `landing.races` times.
    """
    for _ in range(settings.races):
        try:
            return _land(store, zone, name, validation, settings, engine, now, retry_quarantined)
        except AlreadyExistsError:
            continue
    raise AlreadyExistsError(
        f"Other runs added files to {name} {settings.races} times while this one was reading. No file is lost: run again."
    )


def _land(
    store: Store,
    zone: LandingZone,
    name: str,
    validation: ValidationSettings,
    settings: LandingSettings,
    engine: EtlSettings,
    now: float,
    retry_quarantined: bool,
) -> Landing:
    log = LandingLog(store, name)
    head = log.head()
    listing = Listing(store, log.listing_key(zone.uri()))
    known = log.known(retry_quarantined=retry_quarantined)
    with scratch_folder(engine.work_dir) as scratch:
        arrivals = read_arrivals(zone, known, listing, validation, settings, engine.chunk_rows, now, scratch)
        if not arrivals.files:
            listing.save()
            if head is None:
                raise _nothing_yet(zone, arrivals.waiting)
            dataset = load_dataset_ref(store, name, head.version)
            return Landing(dataset, head.number, (), arrivals.waiting, arrivals.known, head.watermark)
        files = PartFiles(store, engine.work_dir / "parts")
        before = state_of(store, files, name, head.version) if head else starting_state(store, files, name, settings)
        number = head.number + 1 if head else 1
        watermark = head.watermark if head else (before.last - settings.allowed_lateness_s if before else 0)
        after, accounts = extended(store, files, name, number, before, arrivals.files, watermark, engine.memory_rows, scratch)
        if after is None or after.layout.rows < validation.min_rows:
            raise DataRefusedError(
                f"The dataset {name} would have {after.layout.rows if after else 0} events after {len(arrivals.files)} new files "
                f"of {zone.uri()}, fewer than validation.min_rows = {validation.min_rows}. Nothing was stored. The next run "
                "reads the files again. Add more files, or lower the setting for a small dataset."
            )
        for read in arrivals.files:
            if read.quarantine is not None:
                store.put(log.quarantine_key(read.sha256), read.quarantine)
    content = content_of(after.layout.events, after.items, after.users)
    watermark = max(watermark, after.last - settings.allowed_lateness_s)
    sources = {account.file: account.sha256 for account in accounts}
    manifest = landed_manifest(name, number, content, after, sources, watermark)
    unchanged = head is not None and manifest["version"] == head.version
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    log.append(
        LogEntry(
            number=number,
            kind="ingest",
            dataset=name,
            version=manifest["version"],
            watermark=watermark,
            when=when,
            manifest=None if unchanged else manifest,
            accounts=accounts,
        )
    )
    listing.save()
    files.remove_unused(after.layout)
    return Landing(
        load_dataset_ref(store, name, manifest["version"]), number, accounts, arrivals.waiting, arrivals.known, watermark
    )


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
