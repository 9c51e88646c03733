"""Find the files of a source: a MovieLens release, or a file, a folder or a zip of one's own."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from configs.clock import wall_clock
from configs.errors import SourceError
from configs.settings import DataSettings, ValidationSettings
from infra.digests import sha256_of
from infra.download import OnBytes, check_digest, download
from infra.landing_zone import is_source
from models.columns import Columns
from tasks.ingest.description_files import PLAIN_TABLES, DescriptionFile, description_kind, descriptions_of, read_descriptions
from tasks.ingest.events import NUMERIC, EventReading, find_columns, open_event_file, reading_of
from tasks.ingest.metadata import (
    ANY_TIME,
    RELEASE,
    TABLES,
    compacted,
    described,
    seeded,
)
from tasks.ingest.movielens import COMPANIONS, Metadata, RawTables, no_ratings, read_companions, unpack
from tasks.ingest.properties_of import reading_for, resolved_properties
from tasks.ingest.table_reading import Kind, TableReading, refusing_tables, table_readings
from tasks.tables import PLAIN, DatasetProperties, column_names, file_format, is_zip, joined_refusals, suffix_of

__all__ = [
    "IngestedSource",
    "LocatedSource",
    "SourceFiles",
    "files_of_events",
    "files_of_folder",
    "ingest",
    "locate",
    "read_tables",
]

TABLES_END = (".csv", ".tsv", ".parquet", ".pq", ".inter", ".item", ".user", ".data", ".dat")
OTHER_TABLES = ("links.csv", "tags.csv", "genome-scores.csv", "genome-tags.csv")  # MovieLens releases have them too
MOVIELENS = DataSettings()
MOVIELENS_READING = EventReading()
ANY = ValidationSettings(min_rating=-1e9, max_rating=1e9)
"""Limits where rows are not validated."""
ATOMIC_KINDS: dict[str, Kind] = {".item": "items", ".user": "users"}

# Checksums published next to the zips. ml-latest and ml-latest-small change over time, so they have none.
PUBLISHED = {
    "ml-100k": "md5:0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "md5:c4d9eecfca2ab87c1945afe126590906",
    "ml-20m": "md5:cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "md5:6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "md5:d472be332d4daa821edc399621853b57",
}


@dataclass(frozen=True, eq=False)
class SourceFiles:
    """The files of a source.

    Attributes:
        events: The event files, in the order in which they are read.
        descriptions: Files that describe items or users in columns with names, and what they describe.
        companions: The items and users of a release whose files have no header.
        tables: How the descriptions are written.
        passed_over: Files that are neither events nor descriptions, and why.
    """

    events: tuple[Path, ...]
    descriptions: tuple[tuple[Path, Kind], ...]
    companions: Metadata
    tables: Mapping[Kind, TableReading] = field(default_factory=lambda: PLAIN_TABLES)
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> tuple[Path, ...]:
        return (*self.events, *(path for path, _ in self.descriptions), *self.companions.files)

    def name_of(self, path: Path) -> str:
        """Return the name of a file, relative to the folder that holds them all."""
        folder = os.path.commonpath([each.parent.absolute() for each in self.all])
        return path.absolute().relative_to(folder).as_posix()

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of each file that is read, by its name."""
        return {self.name_of(path): sha256_of(path) for path in self.all}

    def companion(self, kind: Kind) -> pd.DataFrame | None:
        """Return the table of a release without headers, or None if there is none, or if its ids are text (see `described`)."""
        return None if self.tables[kind].id_is_text else self.companions.table(kind)

    def described(self, latest: int) -> list[tuple[Kind, DescriptionFile]]:
        """Read the descriptions. `latest` is the greatest valid `updated_at` in UTC seconds. Raises SourceError for a damaged file.

        Tables without headers whose ids are text are among them, and older than the others.
        """
        found: list[tuple[Kind, DescriptionFile]] = []
        for kind in TABLES:
            raw = self.companions.table(kind)
            if raw is not None and self.tables[kind].id_is_text:
                whole = np.zeros(len(raw), dtype=bool)
                found.append((kind, descriptions_of(kind, raw, whole, (RELEASE, latest), self.tables[kind])))
        # Times of files say nothing here: those of an unpacked zip are the time of unpacking.
        return found + [(kind, read_descriptions(path, kind, 0, latest, self.tables)) for path, kind in self.descriptions]


@dataclass(frozen=True, eq=False)
class LocatedSource:
    """A source whose files are known, and whose events can be read in chunks.

    Attributes:
        name: The name of the dataset.
        files: The files.
        properties: What the events are: the types of their ids, feedback, repeats and weights.
        reading: How the events are written.
    """

    name: str
    files: SourceFiles
    properties: DatasetProperties = PLAIN
    reading: EventReading = MOVIELENS_READING

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of each file that is read, by file name."""
        return self.files.hashes()

    def refusing(self, texts: Mapping[str, frozenset[str]]) -> LocatedSource:
        """Return the source whose rows with these text ids, by column, are bad too."""
        refused = joined_refusals(self.reading.refused, texts)
        tables = refusing_tables(self.files.tables, refused)
        return replace(self, reading=replace(self.reading, refused=refused), files=replace(self.files, tables=tables))


@dataclass(frozen=True, eq=False)
class IngestedSource:
    """The raw tables of a source, and the sha256 of each file that was read.

    Their columns are those of MovieLens, whatever the files call them. Text ids are text, and times are UTC seconds.
    """

    name: str
    tables: RawTables
    source_hashes: dict[str, str]
    properties: DatasetProperties = PLAIN
    reading: EventReading = MOVIELENS_READING


def ingest(settings: DataSettings, on_bytes: OnBytes | None = None) -> IngestedSource:
    """Read the complete configured source into memory.

    Raises:
        SourceError: The source is missing, unreachable, damaged, or in an unknown format.
    """
    found = locate(settings, on_bytes)
    tables = read_tables(found.files, found.reading)
    return IngestedSource(found.name, tables, found.files.hashes(), found.properties, found.reading.once_read())


def locate(
    settings: DataSettings,
    on_bytes: OnBytes | None = None,
    validation: ValidationSettings = ANY,
    stored: DatasetProperties | None = None,
) -> LocatedSource:
    """Find the files of the configured source, and how their events are written.

    Args:
        settings: The source.
        on_bytes: Is told about the progress of a download.
        validation: The limits of the rows, which decide whether a number is a possible time.
        stored: The properties of the dataset, if an earlier version is stored.

    Raises:
        SourceError: As for `ingest`, but the rows of the files are not read.
        SettingsError: The settings contradict the stored properties.
    """
    files = _files(settings, validation, on_bytes)
    properties = resolved_properties(settings, files.events, stored)
    if stored is not None:
        stored.check(properties, settings.dataset_name)
    companions = _companions(files.events, properties.text_columns) if properties.text_columns else files.companions
    files = replace(files, tables=table_readings(settings, properties), companions=companions)
    return LocatedSource(settings.dataset_name, files, properties, reading_for(settings, properties, stored))


def read_tables(files: SourceFiles, reading: EventReading = MOVIELENS_READING) -> RawTables:
    """Read files into memory. Raises SourceError if one is damaged or if no event file has rows."""
    events = [open_event_file(path, ANY, int(wall_clock()), reading=reading).raw() for path in files.events]
    filled = [frame for frame in events if len(frame)]
    if not filled:
        raise no_ratings(files.events[0])
    tables = {kind: files.companion(kind) for kind in TABLES}
    for kind, table in _tables_of(files.described(ANY_TIME)).items():
        other = tables[kind]
        tables[kind] = table if other is None else pd.concat([other, table], ignore_index=True)
    return RawTables(pd.concat(filled, ignore_index=True), tables["items"], tables["users"], files.all)


def files_of_folder(folder: Path, data: DataSettings = MOVIELENS, limits: ValidationSettings = ANY) -> SourceFiles:
    """Return the files of a folder and its subfolders, by the rules of a landing zone.

    Hidden files are skipped, as is what is neither a table nor named like one. All event files are read together.

    Args:
        folder: The folder.
        data: How the events are written.
        limits: The limits of the rows.

    Raises:
        SourceError: The folder has no event file, has one that cannot be opened, or holds two releases.
    """
    candidates = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_source(path.relative_to(folder).as_posix())]
    events: list[Path] = []
    descriptions: list[tuple[Path, Kind]] = []
    passed_over: dict[str, str] = {}
    faults: list[str] = []
    reading, tables = reading_of(data, PLAIN), table_readings(data)
    for path in candidates:
        name = path.relative_to(folder).as_posix()
        if path.name.lower().removesuffix(".gz") in OTHER_TABLES or not _may_be_table(path, reading, tables):
            continue
        try:
            kind = _kind(path, tables)
        except SourceError as error:
            faults.append(str(error))
            continue
        if kind is not None:
            descriptions.append((path, kind))
            continue
        try:
            open_event_file(path, limits, int(wall_clock()), reading=reading_of(data, resolved_properties(data, [path])))
            events.append(path)
        except SourceError as error:
            if _is_meant_for_events(path, reading):
                faults.append(str(error))
            else:
                passed_over[name] = str(error)
    if faults:
        others = f" The others of {folder} would be read." if events else ""
        raise SourceError(f"{' '.join(faults)}{others} To leave a file out, let its name begin with _ or move it away.")
    if not events:
        names = [path.relative_to(folder).as_posix() for path in candidates]
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
        why = "".join(f" {said}" for said in list(passed_over.values())[:3])
        raise SourceError(
            f"{folder} contains no ratings: expected event files (*.csv, *.tsv, *.parquet, *.inter, u.data, ratings.dat), found {listed}.{why} "
            "Check data.local_path."
        )
    events.sort(key=_reading_order)
    _refuse_two_releases(folder, events)
    return SourceFiles(tuple(events), tuple(descriptions), _companions(events), tables, passed_over)


def files_of_events(path: Path) -> SourceFiles:
    """Return an event file, and the files of items and users that belong to it by their names."""
    companions = _companions([path])
    stem = path.name.lower().removesuffix(".gz").rpartition(".")[0]
    names: dict[str, Kind] = {"movies.csv": "items"}
    if suffix_of(path) == ".inter":
        names = {f"{stem}.item": "items", f"{stem}.user": "users"}
    elif suffix_of(path) in (".data", ".dat"):
        names = {}
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    descriptions = [(each, names[each.name.lower()]) for each in beside if each.name.lower() in names and each != path]
    return SourceFiles((path,), tuple(descriptions), companions)


def _companions(events: Sequence[Path], text_ids: Collection[str] = ()) -> Metadata:
    """Read the tables without headers that come with the first of the event files that has some."""
    return next((found for path in events if (found := read_companions(path, text_ids)).files), Metadata(None, None, ()))


def _kind(path: Path, tables: Mapping[Kind, TableReading]) -> Kind | None:
    """Return what a file describes, or None if it holds events or anything else."""
    return ATOMIC_KINDS.get(suffix_of(path)) or description_kind(path, tables)


def _may_be_table(path: Path, reading: EventReading, tables: Mapping[Kind, TableReading]) -> bool:
    """Return whether a file of a folder is looked at: by its name or, if it is Parquet or has a header, by its content.

    Without a header, the content is not enough: ml-100k comes with parts of its ratings (u1.base) that are not to be read.
    """
    lower = path.name.lower().removesuffix(".gz")
    if any(lower in names[1:] for names in COMPANIONS):
        return False
    if suffix_of(path) in TABLES_END:
        return True
    with suppress(SourceError):
        columns = find_columns(path, column_names(path, reading.known_names)[0], reading)
        return not columns.faults or file_format(path).is_parquet or description_kind(path, tables) is not None
    return False


def _is_meant_for_events(path: Path, reading: EventReading) -> bool:
    """Return whether a file that cannot be read as events should be: it cannot be opened, or it names users and items."""
    try:
        names, _ = column_names(path, reading.known_names)
    except SourceError:
        return suffix_of(path) not in (".data", ".dat")  # many programs write these
    if not any(name.strip(NUMERIC) for name in names):  # rows without a header
        return True
    return (
        {Columns.USER, Columns.ITEM} <= set(find_columns(path, names, reading).names)
        or path.name.lower().startswith(("ratings.", "u.data"))
        or (suffix_of(path) == ".inter")
    )


def _reading_order(path: Path) -> tuple[str, int, str]:
    """Order files by name, and the parts of a dataset that RecBole splits beforehand by time: train, valid, test."""
    part = re.search(r"\.(train|valid|test)\.inter$", path.name.lower())
    return path.parent.as_posix(), ("train", "valid", "test").index(part[1]) if part else 0, path.name


def _refuse_two_releases(folder: Path, events: Sequence[Path]) -> None:
    """Raise SourceError if files of an old release are beside event files in another folder: their ids mean other items."""
    old = [path for path in events if any(path.name.lower().removesuffix(".gz") == names[0] for names in COMPANIONS)]
    if old and len({path.parent for path in events}) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in events[:8])
        raise SourceError(
            f"{folder} holds several releases ({names}), whose ids do not mean the same items. Give the folder of one of them as "
            "data.local_path."
        )


def _tables_of(files: Sequence[tuple[Kind, DescriptionFile]]) -> dict[Kind, pd.DataFrame]:
    """Return the described items and users, one row for each."""
    found: dict[Kind, pd.DataFrame] = {}
    for kind in TABLES:
        frames = [file.frame for each, file in files if each == kind]
        if frames:
            table, _ = described(
                kind, seeded(kind, None, np.empty(0, dtype=np.int64)), pd.concat(frames, ignore_index=True), ANY_TIME
            )
            found[kind] = compacted(kind, table)
    return found


def _files(settings: DataSettings, limits: ValidationSettings, on_bytes: OnBytes | None) -> SourceFiles:
    if settings.local_path is not None:
        return _local_files(settings.local_path, settings, limits)
    if settings.source == "ml-100k" and (shipped := _shipped_100k()) is not None:
        return files_of_events(shipped)
    archive = settings.cache_dir / f"{settings.source}.zip"
    checksum = settings.checksum or PUBLISHED.get(settings.source)
    if not archive.exists():
        download(
            f"{settings.mirror_url.rstrip('/')}/{settings.source}.zip",
            archive,
            checksum=checksum,
            timeout_s=settings.timeout_s,
            retries=settings.retries,
            on_bytes=on_bytes,
        )
    elif checksum is not None:
        check_digest(archive, checksum, f"in {settings.cache_dir}")
    return _unpacked(archive, settings, limits)


def _local_files(path: Path, settings: DataSettings, limits: ValidationSettings) -> SourceFiles:
    if not path.exists():
        raise SourceError(f"data.local_path is {path}, but there is no such file or folder. Correct the path.")
    if path.is_dir():
        return files_of_folder(path, settings, limits)
    if settings.checksum is not None:
        check_digest(path, settings.checksum, "given as data.local_path")
    return _unpacked(path, settings, limits) if is_zip(path) else files_of_events(path)


def _unpacked(archive: Path, settings: DataSettings, limits: ValidationSettings) -> SourceFiles:
    # The folder is named by content, so a replaced zip with the same name is unpacked again.
    folder = unpack(archive, settings.cache_dir / f"{archive.stem}-{sha256_of(archive)[:12]}")
    return files_of_folder(folder, settings, limits)


def _shipped_100k() -> Path | None:
    """Return the copy of ML-100K in recbole's wheel, or None. Does not import recbole, which takes seconds."""
    package = importlib.util.find_spec("recbole")
    for place in (package.submodule_search_locations or []) if package else []:
        path = Path(place) / "dataset_example" / "ml-100k" / "ml-100k.inter"
        if path.exists():
            return path
    return None
