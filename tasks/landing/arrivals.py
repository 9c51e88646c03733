"""Find the files of a landing zone that are new and ready, and read them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import NotFoundError, SourceError
from configs.settings import LandingSettings, ValidationSettings
from infra.digests import sha256_of
from infra.landing_zone import Delivery, LandingZone
from infra.storage import Store
from tasks.datasets import FileKind, file_id
from tasks.ingest import AcceptedModel, DescriptionFile, description_kind, open_event_file, read_descriptions
from tasks.landing.scratch import writing

__all__ = ["Arrivals", "Listing", "ReadFile", "read_arrivals"]


@dataclass(frozen=True, eq=False)
class ReadFile:
    """A new file that was read. `events` holds the good rows in the columns of merge_interactions, `quarantine` the bad rows."""

    delivery: Delivery
    sha256: str
    kind: FileKind
    ordinal: int  # the value of `file` in its events
    rows: int = 0
    good: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    extra_columns: tuple[str, ...] = ()
    events: Path | None = None
    descriptions: DescriptionFile | None = None
    quarantine: Path | None = None
    why: str = ""  # why the file is quarantined as a whole; empty if it is not


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The result of scanning the zone."""

    files: list[ReadFile]  # by sha256
    waiting: dict[str, str]  # name -> why it is left for a later run
    known: int  # files whose content was added before


class Listing:
    """What runs have seen of a zone, kept in the store.

    It holds the sha256 of files by name, size and time, so that no run has to read old files again to recognize them. For each
    waiting file, it also holds the time since which the file has been unchanged, whatever the file's own clock shows.

    The listing is only a cache. If it is lost or out of date, files are read again and their waiting time starts again.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        try:
            found = json.loads(store.get(key))
            self._known = {Delivery(*entry[:4]): str(entry[4]) for entry in found["files"]}
            self._waiting = {Delivery(*entry[:4]): float(entry[4]) for entry in found["waiting"]}
        except (NotFoundError, ValueError, TypeError, KeyError):
            self._known, self._waiting = {}, {}
        self._seen: dict[Delivery, str] = {}
        self._waits: dict[Delivery, float] = {}

    def sha256(self, delivery: Delivery) -> str | None:
        """The sha256 of a file that was seen before, or None if it is new."""
        return self._known.get(delivery)

    def remember(self, delivery: Delivery, sha256: str) -> None:
        """Keep the sha256 of a file for later runs."""
        self._seen[delivery] = sha256

    def unchanged_s(self, delivery: Delivery, now: float) -> float:
        """Return the seconds since the file last changed, by its own time or by what runs have seen."""
        since = self._waits[delivery] = min(self._waiting.get(delivery, now), now)
        return max(now - delivery.modified_ns / 1e9, now - since)

    def save(self) -> None:
        """Store what this run has seen. Deleted files are forgotten."""
        waits = {delivery: since for delivery, since in self._waits.items() if delivery not in self._seen}
        if (self._seen, waits) != (self._known, self._waiting):
            kept = {"files": _entries(self._seen), "waiting": _entries(waits)}
            self._store.put(self._key, json.dumps(kept).encode())


def read_arrivals(
    zone: LandingZone,
    known: set[str],
    listing: Listing,
    validation: ValidationSettings,
    settings: LandingSettings,
    chunk_rows: int,
    now: float,
    scratch: Path,
) -> Arrivals:
    """Read the files whose id is not in `known`.

    A file waits if it has changed within `landing.settle_s` or while it was being read. A file that cannot be read waits until it
    has not changed for `landing.give_up_s`.

    Args:
        known: Ids of the files that need not be read.
        now: UTC seconds.
        scratch: Folder for the rows that are read.

    Raises:
        StoreFullError: `scratch` cannot be written.
    """
    files: list[ReadFile] = []
    waiting: dict[str, str] = {}
    repeated = 0
    seen = set(known)
    for delivery in zone.deliveries():
        sha256 = listing.sha256(delivery)
        if sha256 is not None and _is_known(sha256, delivery, seen):
            listing.remember(delivery, sha256)
            repeated += 1
            continue
        unchanged_s = listing.unchanged_s(delivery, now)
        if not zone.atomic and unchanged_s < settings.settle_s:
            waiting[delivery.name] = f"it was written {unchanged_s:.0f} s ago and may still grow (landing.settle_s)"
            continue
        try:
            with zone.opened(delivery, scratch) as path:
                read = _read(path, delivery, seen, validation, settings, chunk_rows, now, scratch, len(files))
        except NotFoundError:
            waiting[delivery.name] = "it was removed while it was being read"
            continue
        except SourceError as error:
            waiting[delivery.name] = str(error)
            continue
        except OSError as error:  # concerns this file only; a failure of the scratch folder is a StoreFullError
            waiting[delivery.name] = f"it cannot be read: {error.strerror or error}. Fix it, or remove it from the landing zone"
            continue
        if not zone.unchanged(delivery):
            waiting[delivery.name] = "it changed while it was being read"
            continue
        if isinstance(read, str):
            listing.remember(delivery, read)
            repeated += 1
            continue
        if read.kind == "unreadable" and unchanged_s < settings.give_up_s:
            waiting[delivery.name] = read.why
            continue
        listing.remember(delivery, read.sha256)
        seen.add(file_id(read.kind, read.sha256, delivery.modified_ns))
        files.append(read)
    return Arrivals(sorted(files, key=lambda read: (read.sha256, read.delivery)), waiting, repeated)


def _entries(found: Mapping[Delivery, str | float]) -> list[list[object]]:
    return [[*astuple(delivery), value] for delivery, value in sorted(found.items())]


def _is_known(sha256: str, delivery: Delivery, known: set[str]) -> bool:
    return sha256 in known or file_id("items", sha256, delivery.modified_ns) in known


def _read(
    path: Path,
    delivery: Delivery,
    known: set[str],
    validation: ValidationSettings,
    settings: LandingSettings,
    chunk_rows: int,
    now: float,
    scratch: Path,
    ordinal: int,
) -> ReadFile | str:
    """Read the file, or return only its sha256 if the file is already known."""
    sha256 = _sha256(path)
    if _is_known(sha256, delivery, known):
        return sha256
    try:
        kind = description_kind(path)
        if kind is not None:
            told = read_descriptions(path, kind, delivery.modified_ns, sha256)
            quarantine = _QuarantineFile(scratch / f"{ordinal}.quarantine.parquet")
            quarantine.write(told.quarantined)
            read = ReadFile(
                delivery, sha256, kind, ordinal, told.rows, len(told.frame), told.reasons, told.extra_columns, descriptions=told,
                quarantine=quarantine.close(),
            )  # fmt: skip
        else:
            read = _read_events(path, delivery, sha256, validation, chunk_rows, now, scratch, ordinal)
    except SourceError as error:
        return ReadFile(delivery, sha256, "unreadable", ordinal, why=str(error))
    bad = read.rows - read.good
    if bad >= settings.refuse_from_rows and bad / read.rows > validation.max_quarantined_share:
        said = "; ".join(f"{reason}: {count}" for reason, count in sorted(read.reasons.items(), key=lambda each: -each[1])[:4])
        why = (
            f"{bad} of {read.rows} rows are bad ({bad / read.rows:.1%}), above validation.max_quarantined_share = "
            f"{validation.max_quarantined_share:.1%}. {said}"
        )
        return ReadFile(
            delivery,
            sha256,
            read.kind,
            ordinal,
            read.rows,
            0,
            read.reasons,
            read.extra_columns,
            quarantine=read.quarantine,
            why=why,
        )
    return read


def _read_events(
    path: Path,
    delivery: Delivery,
    sha256: str,
    validation: ValidationSettings,
    chunk_rows: int,
    now: float,
    scratch: Path,
    ordinal: int,
) -> ReadFile:
    rows = good = 0
    reasons: Counter[str] = Counter()
    quarantine = _QuarantineFile(scratch / f"{ordinal}.quarantine.parquet")
    events, writer = scratch / f"{ordinal}.events.parquet", None
    try:
        file = open_event_file(path, validation, int(now), chunk_rows)
        for chunk in file.chunks():
            rows, good = rows + chunk.rows, good + len(chunk.accepted)
            quarantine.write(chunk.quarantined)
            for said, count in chunk.quarantined["reasons"].value_counts().items():
                reasons.update(dict.fromkeys(str(said).split("; "), int(count)))
            table = pa.Table.from_pandas(AcceptedModel.validate(chunk.accepted).assign(file=ordinal), preserve_index=False)
            with writing(scratch):
                if writer is None:
                    writer = pq.ParquetWriter(events, table.schema, compression="lz4")
                writer.write_table(table)
    finally:
        with writing(scratch):
            if writer is not None:
                writer.close()
        bad = quarantine.close()
    return ReadFile(
        delivery, sha256, "events", ordinal, rows, good, dict(sorted(reasons.items())), file.extra_columns,
        events=events if good else None, quarantine=bad,
    )  # fmt: skip


class _QuarantineFile:
    """Writes bad rows (row, reasons, cells) as they are found. There is no file if there are no bad rows."""

    SCHEMA = pa.schema([("row", pa.int64()), ("reasons", pa.string()), ("cells", pa.string())])

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, frame: pd.DataFrame) -> None:
        if len(frame):
            table = pa.Table.from_pandas(frame[self.SCHEMA.names], self.SCHEMA, preserve_index=False)
            with writing(self._path.parent):
                if self._writer is None:
                    self._writer = pq.ParquetWriter(self._path, self.SCHEMA, compression="zstd")
                self._writer.write_table(table)

    def close(self) -> Path | None:
        if self._writer is None:
            return None
        with writing(self._path.parent):
            self._writer.close()
        return self._path


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}. Give this user access to it.") from error
