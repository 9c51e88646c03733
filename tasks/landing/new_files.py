"""Find the files of a landing zone that are new and ready, and read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.errors import NotFoundError, SourceError
from infra.digests import sha256_of
from infra.landing_zone import LandingZone, SourceFile
from models.columns import Columns
from tasks.datasets import FileKind, file_id
from tasks.ingest import (
    BAD_ROWS,
    DescriptionFile,
    EventChunk,
    EventFile,
    RowAccount,
    accepted_events,
    description_kind,
    open_event_file,
    read_descriptions,
)
from tasks.landing.listing import Listing
from tasks.landing.options import LandingOptions
from tasks.landing.scratch import ScratchFile
from tasks.tables import schema_of

__all__ = ["NewFile", "NewFiles", "ZoneReader"]

EVENT_SCHEMA = schema_of(Columns.FILE_EVENT)


@dataclass(frozen=True, eq=False)
class NewFile:
    """A new file that was read."""

    file: SourceFile
    sha256: str
    ordinal: int  # the value of `file` in its events
    kind: FileKind = "unreadable"
    rows: int = 0
    good: int = 0
    faults: str = ""  # all of them, in words
    reasons: dict[str, int] = field(default_factory=dict)
    extra_columns: tuple[str, ...] = ()
    events: Path | None = None  # the good rows, with Columns.FILE_EVENT
    descriptions: DescriptionFile | None = None
    quarantine: Path | None = None  # the bad rows
    why: str = ""  # why the file is quarantined as a whole; empty if it is not


@dataclass(frozen=True)
class AlreadyKnown:
    """The content of a file was added before, under any name."""

    sha256: str


@dataclass(frozen=True)
class Waiting:
    """A file is left for a later run."""

    why: str


@dataclass(frozen=True, eq=False)
class NewFiles:
    """The result of scanning the zone."""

    files: list[NewFile]  # by sha256
    waiting: dict[str, str]  # name -> why it is left for a later run
    known: int  # files whose content was added before


class ZoneReader:
    """Reads the files of a zone whose id is not known."""

    def __init__(
        self,
        zone: LandingZone,
        listing: Listing,
        known: set[str],
        options: LandingOptions,
        scratch: Path,
        chunks: Callable[[EventFile], Iterator[EventChunk]],
    ) -> None:
        """Prepare to read.

        Args:
            zone: The landing zone.
            listing: What earlier runs have seen. It is updated, but not saved.
            known: Ids of the files that need not be read.
            options: The options of the run.
            scratch: Folder for the rows that are read.
            chunks: Reads an event file.
        """
        self._chunks = chunks
        self._zone, self._listing, self._options, self._scratch = zone, listing, options, scratch
        self._known = set(known)

    def read(self) -> NewFiles:
        """Read the new files.

        A file waits if it has changed within `landing.settle_s` or while it was being read. A file that cannot be read waits
        until it has not changed for `landing.give_up_s`.

        Raises:
            StoreFullError: The scratch folder cannot be written.
        """
        files: list[NewFile] = []
        waiting: dict[str, str] = {}
        repeated = 0
        for file in self._zone.files():
            found = self._found(file, len(files))
            if isinstance(found, Waiting):
                waiting[file.name] = found.why
                continue
            self._listing.remember(file, found.sha256)
            if isinstance(found, AlreadyKnown):
                repeated += 1
            else:
                self._known.add(file_id(found.kind, found.sha256, file.modified_ns))
                files.append(found)
        return NewFiles(sorted(files, key=lambda new: (new.sha256, new.file)), waiting, repeated)

    def _found(self, file: SourceFile, ordinal: int) -> NewFile | AlreadyKnown | Waiting:
        settings = self._options.landing
        sha256 = self._listing.sha256(file)
        if sha256 is not None and self._is_known(file, sha256):
            return AlreadyKnown(sha256)
        unchanged_s = self._listing.unchanged_s(file, self._options.now)
        if not self._zone.atomic and unchanged_s < settings.settle_s:
            return Waiting(f"it was written {unchanged_s:.0f} s ago and may still grow (landing.settle_s)")
        try:
            with self._zone.opened(file, self._scratch) as path:
                found = self._read(path, file, ordinal)
        except NotFoundError:
            return Waiting("it was removed while it was being read")
        except SourceError as error:
            return Waiting(str(error))
        except OSError as error:  # concerns this file only; a failure of the scratch folder is a StoreFullError
            return Waiting(f"it cannot be read: {error.strerror or error}. Fix it, or remove it from the landing zone")
        if not self._zone.unchanged(file):
            return Waiting("it changed while it was being read")
        if isinstance(found, NewFile) and found.kind == "unreadable" and unchanged_s < settings.give_up_s:
            return Waiting(found.why)
        return found

    def _is_known(self, file: SourceFile, sha256: str) -> bool:
        return sha256 in self._known or file_id("items", sha256, file.modified_ns) in self._known

    def _read(self, path: Path, file: SourceFile, ordinal: int) -> NewFile | AlreadyKnown:
        sha256 = _sha256(path)
        if self._is_known(file, sha256):
            return AlreadyKnown(sha256)
        new = NewFile(file, sha256, ordinal)
        try:
            return self._judged(self._with_rows(path, new))
        except SourceError as error:
            return replace(new, why=str(error))

    def _with_rows(self, path: Path, new: NewFile) -> NewFile:
        kind = description_kind(path)
        quarantine = ScratchFile(self._scratch / f"{new.ordinal}.quarantine.parquet", BAD_ROWS)
        with RowAccount(quarantine) as account:
            if kind is None:
                new = self._with_events(path, new, account)
            else:
                provided = read_descriptions(path, kind, new.file.modified_ns, new.sha256)
                account.add(provided.rows, provided.quarantined)
                new = replace(new, kind=kind, descriptions=provided, extra_columns=provided.extra_columns)
        return replace(
            new,
            rows=account.rows,
            good=account.accepted,
            reasons=account.reasons,
            faults=account.told(),
            quarantine=quarantine.path if quarantine.rows else None,
        )

    def _with_events(self, path: Path, new: NewFile, account: RowAccount) -> NewFile:
        options = self._options
        file = open_event_file(path, options.validation, int(options.now), options.engine.chunk_rows)
        with ScratchFile(self._scratch / f"{new.ordinal}.events.parquet", EVENT_SCHEMA, temporary=True) as events:
            for accepted in accepted_events(self._chunks(file), account, new.ordinal):
                events.write(accepted)
        return replace(new, kind="events", extra_columns=file.extra_columns, events=events.path if events.rows else None)

    def _judged(self, new: NewFile) -> NewFile:
        """Quarantine the file as a whole if too many of its rows are bad."""
        bad, most = new.rows - new.good, self._options.validation.max_quarantined_share
        if bad < self._options.landing.refuse_from_rows or bad / new.rows <= most:
            return new
        why = (
            f"{bad} of {new.rows} rows are bad ({bad / new.rows:.1%}), above validation.max_quarantined_share = {most:.1%}. "
            f"{new.faults}"
        )
        return replace(new, good=0, events=None, descriptions=None, why=why)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}. Give this user access to it.") from error
