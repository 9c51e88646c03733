"""Find the files of a landing zone that are new and ready, and read them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from configs.errors import NotFoundError, SourceError
from infra.digests import sha256_of
from infra.landing_zone import LandingZone, SourceFile
from models.columns import Columns
from tasks.datasets import FileAccount, FileKind
from tasks.ingest import (
    BAD_ROWS,
    TABLES,
    DescriptionFile,
    EventChunk,
    EventFile,
    EventReading,
    Kind,
    RowAccount,
    accepted_events,
    description_kind,
    open_event_file,
    read_descriptions,
    reading_for,
    refusing_tables,
    resolved_properties,
    table_readings,
)
from tasks.landing.ledger import Ledger
from tasks.landing.listing import Listing
from tasks.landing.options import LandingOptions
from tasks.landing.scratch import ScratchFile
from tasks.tables import PLAIN, DatasetProperties, IdCollectors, schema_of

__all__ = ["NewFile", "NewFiles", "ZoneReader"]

LOG = logging.getLogger("recsys")
UNFORESEEN = (pa.ArrowException, ValueError, ArithmeticError)
"""What parsers raise for content that nobody thought of. It concerns one file, so it must not keep out the others."""


@dataclass(frozen=True, eq=False)
class NewFile:
    """A new file that was read."""

    file: SourceFile
    sha256: str
    ordinal: int  # the value of `file` in its events
    kind: FileKind = "unreadable"
    rows: int = 0
    good: int = 0
    removed: int = 0  # further good rows, which a removal keeps out
    left_out: int = 0  # further good rows, whose weight is 0
    faults: str = ""  # all of them, in words
    reasons: dict[str, int] = field(default_factory=dict)
    extra_columns: tuple[str, ...] = ()
    events: Path | None = None  # the good rows, with Columns.FILE_EVENT
    descriptions: DescriptionFile | None = None
    written: int = 0  # UTC seconds as which its rows count as delivered
    quarantine: Path | None = None  # the bad rows, of which there may be none
    why: str = ""  # why the file is quarantined as a whole; empty if it is not


@dataclass(frozen=True)
class AlreadyKnown:
    """The content of a file was added before, under any name.

    Attributes:
        why: Which file it repeats, if it is found under this name or time for the first time; empty otherwise.
    """

    sha256: str
    why: str = ""


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
    copies: list[FileAccount] = field(default_factory=list)  # those that are found under a name or time for the first time
    properties: DatasetProperties = PLAIN  # of the dataset
    ids: IdCollectors = field(default_factory=lambda: IdCollectors((), Path()))  # the text ids of the files


class ZoneReader:
    """Reads the files of a zone whose id is not known."""

    def __init__(
        self,
        zone: LandingZone,
        listing: Listing,
        ledger: Ledger,
        options: LandingOptions,
        scratch: Path,
        chunks: Callable[[EventFile], Iterator[EventChunk]],
    ) -> None:
        """Prepare to read.

        Args:
            zone: The landing zone.
            listing: What earlier runs have seen. It is updated, but not saved.
            ledger: The files that need not be read.
            options: The options of the run.
            scratch: Folder for the rows that are read.
            chunks: Reads an event file.
        """
        self._chunks = chunks
        self._zone, self._listing, self._options, self._scratch = zone, listing, options, scratch
        self._ledger = ledger
        self._properties, self._reading, self._tables = PLAIN, EventReading(), table_readings(options.data)
        self._ids = IdCollectors((), scratch)

    def read(self, stored: DatasetProperties | None, refused: Mapping[str, frozenset[str]]) -> NewFiles:
        """Read the new files.

        A file waits if it has changed within `landing.settle_s` or while it was being read. A file that cannot be read waits
        until it has not changed for `landing.give_up_s`.

        Args:
            stored: The properties of the dataset, if there is one.
            refused: Text ids by column whose rows are bad, because another text has the same number.

        Raises:
            SettingsError: The settings contradict the stored dataset.
            StoreFullError: The scratch folder cannot be written.
        """
        self._find_properties(stored, refused)
        files: list[NewFile] = []
        copies: list[FileAccount] = []
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
                if found.why:
                    copies.append(_copy(file, found))
            else:
                self._ledger.add(file, found.sha256, found.kind)
                files.append(found)
        files.sort(key=lambda new: (new.sha256, new.file))
        return NewFiles(files, waiting, repeated, copies, self._properties, self._ids)

    def _find_properties(self, stored: DatasetProperties | None, refused: Mapping[str, frozenset[str]]) -> None:
        """Find out what the events are and how they are written: by the settings, the stored dataset, or the new files."""
        data = self._options.data
        self._properties = resolved_properties(data, self._event_files(), stored)
        if stored is not None:
            stored.check(self._properties, data.dataset_name)
        self._reading = replace(reading_for(data, self._properties, stored), refused=refused)
        self._tables = refusing_tables(table_readings(data, self._properties), refused)
        self._ids = IdCollectors(self._properties.text_columns, self._scratch)

    def _event_files(self) -> Iterator[Path]:
        """Yield the new event files that are ready, each while it is open."""
        settings = self._options.landing
        for file in self._zone.files():
            if not self._zone.atomic and self._listing.unchanged_s(file, self._options.now) < settings.settle_s:
                continue
            with suppress(NotFoundError, SourceError, OSError, *UNFORESEEN), self._zone.opened(file, self._scratch) as path:
                if description_kind(path, self._tables) is None:
                    yield path

    def _found(self, file: SourceFile, ordinal: int) -> NewFile | AlreadyKnown | Waiting:
        settings = self._options.landing
        sha256 = self._listing.sha256(file)
        if sha256 is not None and self._ledger.has(file, sha256):
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

    def _read(self, path: Path, file: SourceFile, ordinal: int) -> NewFile | AlreadyKnown:
        sha256 = _sha256(path)
        if self._ledger.has(file, sha256) or self._ledger.has_under_name(file, sha256):
            return AlreadyKnown(sha256, self._ledger.copied(file, sha256))
        new = NewFile(file, sha256, ordinal, written=self._ledger.written(file, sha256, self._options.now))
        try:
            return self._judged(self._with_rows(path, new))
        except SourceError as error:
            return replace(new, why=str(error))
        except (MemoryError, pa.ArrowCancelled):  # no fault of the file
            raise
        except UNFORESEEN as error:
            LOG.exception("%s cannot be read", file.name)
            return replace(new, why=_unforeseen(path, error))

    def _with_rows(self, path: Path, new: NewFile) -> NewFile:
        kind = description_kind(path, self._tables)
        quarantine = ScratchFile(self._scratch / f"{new.ordinal}.quarantine.parquet", BAD_ROWS)
        with RowAccount(quarantine) as account:
            if kind is None:
                new = self._with_events(path, new, account)
            else:
                latest = int(self._options.now) + self._options.validation.max_future_s
                provided = self._kept(kind, read_descriptions(path, kind, new.written, latest, self._tables))
                account.add(provided.rows, provided.quarantined)
                if provided.ids is not None:
                    self._ids.add({TABLES[kind].id: provided.ids})
                removed = provided.rows - len(provided.quarantined) - len(provided.frame)
                new = replace(new, kind=kind, descriptions=provided, extra_columns=provided.extra_columns, removed=removed)
        return replace(
            new,
            rows=account.rows,
            good=account.accepted - new.removed,
            left_out=account.left_out,
            reasons=account.reasons,
            faults=account.told(),
            quarantine=quarantine.path,
        )

    def _with_events(self, path: Path, new: NewFile, account: RowAccount) -> NewFile:
        options = self._options
        file = open_event_file(path, options.validation, int(options.now), options.engine.chunk_rows, self._reading)
        schema = schema_of(self._properties.with_weight(Columns.FILE_EVENT))
        with ScratchFile(self._scratch / f"{new.ordinal}.events.parquet", schema, temporary=True) as events:
            for accepted in accepted_events(self._chunks(file), account, new.ordinal, self._ids.add):
                events.write(accepted[self._kept_events(accepted)])
        removed = account.accepted - events.rows
        path_of_events = events.path if events.rows else None
        return replace(new, kind="events", extra_columns=file.extra_columns, events=path_of_events, removed=removed)

    def _kept_events(self, events: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return a mask of the events that no removal and no erasure keeps out."""
        kept: npt.NDArray[np.bool_] = ~np.isin(events[Columns.USER].to_numpy(np.int64), self._ledger.erased)
        for removal in self._ledger.removals.values():
            kept &= ~removal.holds(events)
        return kept

    def _kept(self, kind: Kind, provided: DescriptionFile) -> DescriptionFile:
        """Return the descriptions without those that a removal or an erasure keeps out."""
        gone = [removal.describes(kind) for removal in self._ledger.removals.values()]
        erased = self._ledger.erased.tolist() if kind == "users" else []
        kept = ~provided.frame[TABLES[kind].id].isin([*erased, *[each for each in gone if each is not None]])
        return replace(provided, frame=provided.frame[kept].reset_index(drop=True))

    def _judged(self, new: NewFile) -> NewFile:
        """Quarantine the file as a whole if too many of its rows are bad."""
        bad, most = new.rows - new.good - new.removed - new.left_out, self._options.validation.max_quarantined_share
        if bad < self._options.landing.refuse_from_rows or bad / new.rows <= most:
            return new
        why = (
            f"{bad} of {new.rows} rows are bad ({bad / new.rows:.1%}), above validation.max_quarantined_share = {most:.1%}. "
            f"{new.faults}"
        )
        return replace(new, good=0, removed=0, left_out=0, events=None, descriptions=None, why=why)


def _unforeseen(path: Path, error: Exception) -> str:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
    return (
        f"{path} cannot be read for a reason that was not foreseen ({said}). Report it with the traceback in the log. Deliver the file "
        "in another form, or run `recsys data retry` with a version of the product that reads it."
    )


def _copy(file: SourceFile, found: AlreadyKnown) -> FileAccount:
    return FileAccount(file.name, found.sha256, "events", file.modified_ns, file.size, "copy", why=found.why)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}. Give this user access to it.") from error
