"""Build the tables of a dataset version from the files of a release, in chunks that fit in memory.

The result is the same as that of `validate` and `build_features` on the complete source in memory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import DataRefusedError, StoreFullError
from configs.extras import require
from configs.settings import EtlSettings, ValidationSettings
from models.columns import Columns
from models.identity import number_of
from tasks.ingest.engine_pandas import Engine, PandasEngine
from tasks.ingest.events import EventChunk, EventFile, open_event_file
from tasks.ingest.features import earlier_events, write_features
from tasks.ingest.metadata import TABLES
from tasks.ingest.movielens import no_ratings
from tasks.ingest.row_account import BAD_ROWS, RowAccount
from tasks.ingest.sources import LocatedSource
from tasks.ingest.validation import TableReport, ValidationReport, describe
from tasks.tables import ID_TABLES, PLAIN, DatasetProperties, IdCollectors, ParquetWriter

__all__ = ["Release", "ReleaseRefusedError", "building", "chunk_reader", "without_users"]

PREFIX = "release-"
LEFTOVER_S = 86_400  # seconds; an older folder was left by a killed run


class ReleaseRefusedError(DataRefusedError):
    """The rows of a release were read but do not form a valid dataset."""

    report: ValidationReport
    """Their counts."""


@dataclass(frozen=True, eq=False)
class Release:
    """Tables that satisfy the models. The large ones are Parquet files."""

    interactions: Path  # sorted by user, time, item
    features: Path
    items: pd.DataFrame
    users: pd.DataFrame
    quarantined: pd.DataFrame  # table, row, reasons, cells (the original cells, as text)
    report: ValidationReport
    superseded: pd.DataFrame  # Columns.HAPPENED of the events that happened before the one that counts (`earlier_events`)
    properties: DatasetProperties = PLAIN
    ids: Mapping[str, Path] = field(default_factory=dict)  # user_ids and item_ids: the external ids of text ids, as Parquet files


@contextmanager
def building(
    source: LocatedSource, validation: ValidationSettings, settings: EtlSettings, now: int, erased: frozenset[int] = frozenset()
) -> Iterator[Release]:
    """Build the release of a source. Its files exist until the block ends.

    Args:
        source: The files.
        validation: Limits of the validation.
        settings: How and where it is built.
        now: UTC seconds.
        erased: Numbers of users who are left out.

    Raises:
        SourceError: The source cannot be read.
        ReleaseRefusedError: A column is empty, too many rows are bad, or too few rows are left.
        StoreFullError: `settings.work_dir` cannot be written.
    """
    try:
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(settings.work_dir)
        with TemporaryDirectory(prefix=PREFIX, dir=settings.work_dir) as folder:
            found = _build(source, validation, settings, now, Path(folder))
            yield (
                without_users(found, np.array(sorted(erased), np.int64), Path(folder), settings.memory_rows) if erased else found
            )
    except OSError as error:
        raise StoreFullError(
            f"etl.work_dir ({settings.work_dir}) cannot be written: {error.strerror or error}. Free up space there (about 150 "
            "bytes per event), or choose another folder; nothing was stored."
        ) from error


def _remove_leftovers(work_dir: Path) -> None:
    for folder in work_dir.glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_mtime > LEFTOVER_S:
            shutil.rmtree(folder, ignore_errors=True)


def _build(source: LocatedSource, validation: ValidationSettings, settings: EtlSettings, now: int, folder: Path) -> Release:
    """Build the release. If two text ids have one number, the files are read again without the rows of one of them."""
    while True:
        with TemporaryDirectory(dir=folder) as name:
            work = Path(name)
            found = _built(source, validation, settings, now, work)
            if isinstance(found, Release):
                return replace(
                    found,
                    interactions=_moved(found.interactions, folder),
                    features=_moved(found.features, folder),
                    ids={table: _moved(path, folder) for table, path in found.ids.items()},
                )
        source = source.refusing(found)


def _moved(path: Path, folder: Path) -> Path:
    return path.rename(folder / path.name)


def _built(
    source: LocatedSource, validation: ValidationSettings, settings: EtlSettings, now: int, folder: Path
) -> Release | dict[str, frozenset[str]]:
    """Build the release, or return the texts by id column whose rows are bad, because another text has the same number."""
    files = [open_event_file(path, validation, now, settings.chunk_rows, source.reading) for path in source.files.events]
    described = source.files.described(now + validation.max_future_s)
    account = RowAccount(ParquetWriter(folder / "quarantine.parquet", BAD_ROWS, temporary=True))
    interactions, features = folder / "interactions.parquet", folder / "features.parquet"
    ids = IdCollectors(source.properties.text_columns, folder)
    with _engine(settings, folder, source.properties) as engine:
        with account:
            for ordinal, file in enumerate(files):
                if len(files) > 1:
                    account.begin(source.files.name_of(file.path))
                engine.read(file, account, ordinal, ids.add)
        if not account.rows:
            raise no_ratings(source.files.events[0])
        for kind, descriptions in described:
            if descriptions.ids is not None:
                ids.add({TABLES[kind].id: descriptions.ids})
        if ids.refused:
            return ids.refused
        _report(account, 0, validation)  # refuse bad data before it is sorted
        superseded = engine.write_interactions(interactions)
        report = _report(account, len(superseded), validation)
        happened = earlier_events(superseded, _pieces(interactions, settings.memory_rows) if len(superseded) else [])
        users, items = engine.write_features(interactions, features, happened)
    found = describe(source.files.companion("items"), source.files.companion("users"), items, users, described)
    maps: dict[str, Path] = {}
    for column, each in ids.by_column.items():
        table = found.users if column == Columns.USER else found.items
        path = maps[ID_TABLES[column]] = folder / f"{ID_TABLES[column]}.parquet"
        each.write(path, table[column].to_numpy(np.int64), memory_rows=settings.memory_rows)
    return Release(
        interactions,
        features,
        found.items,
        found.users,
        pd.concat([account.quarantined(), found.quarantined], ignore_index=True),
        ValidationReport({"interactions": report, **found.reports}, found.items_without_metadata),
        happened,
        source.properties,
        maps,
    )


def _report(account: RowAccount, duplicates: int, validation: ValidationSettings) -> TableReport:
    """Return the row counts of the account. Raises ReleaseRefusedError with them if the rows are refused."""
    try:
        return account.report(duplicates, validation)
    except DataRefusedError as error:
        refused = ReleaseRefusedError(str(error))
        refused.report = ValidationReport({"interactions": account.counted(duplicates)}, 0)
        raise refused from None


def _pieces(interactions: Path, rows: int) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(interactions) as file:
        for batch in file.iter_batches(rows, columns=list(Columns.HAPPENED)):
            yield batch.to_pandas()


def without_users(release: Release, users: npt.NDArray[np.int64], folder: Path, memory_rows: int) -> Release:
    """Return a release as if some users had never been in it, or the same object if it has nothing of them.

    An item that only they had events of goes with them, unless something describes it. The report keeps the counts of what was read.

    Args:
        release: The release.
        users: (n,) their numbers.
        folder: Gets the new files.
        memory_rows: How many events are in memory at once.

    Raises:
        DataRefusedError: No event would be left.
    """
    gone = release.users[Columns.USER].isin(users)
    bad = _names_one_of(release.quarantined, users, text=Columns.USER in release.properties.text_columns)
    if not gone.any():
        return replace(release, quarantined=release.quarantined[~bad].reset_index(drop=True)) if bad.any() else release
    interactions, features = folder / "interactions-left.parquet", folder / "features-left.parquet"
    if not _write_others(release.interactions, interactions, Columns.USER, users):
        raise DataRefusedError("No event would be left without the erased users, so no version was made.")
    superseded = release.superseded[~release.superseded[Columns.USER].isin(users)].reset_index(drop=True)
    _, with_events = write_features(interactions, features, memory_rows=memory_rows, superseded=superseded)
    described = release.items.drop(columns=Columns.ITEM)
    kept = release.items[Columns.ITEM].isin(with_events) | (described.notna() & (described != "")).any(axis=1)
    lost = {Columns.USER: users, Columns.ITEM: release.items[Columns.ITEM].to_numpy(np.int64)[~kept.to_numpy(bool)]}
    ids: dict[str, Path] = {}
    for column, table in ID_TABLES.items():
        if table in release.ids:
            ids[table] = folder / f"{table}-left.parquet"
            _write_others(release.ids[table], ids[table], column, lost[column])
    return replace(
        release,
        interactions=interactions,
        features=features,
        items=release.items[kept].reset_index(drop=True),
        users=release.users[~gone].reset_index(drop=True),
        quarantined=release.quarantined[~bad].reset_index(drop=True),
        superseded=superseded,
        ids=ids,
    )


def _write_others(source: Path, target: Path, column: str, without: npt.NDArray[np.int64]) -> int:
    """Copy the rows of a Parquet file whose cell in a column is none of `without`. Returns their number."""
    rows = 0
    with pq.ParquetFile(source) as file, pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches():
            left = batch.filter(pa.array(~np.isin(batch.column(column).to_numpy(), without)))
            writer.write_batch(left)
            rows += left.num_rows
    return rows


def _names_one_of(quarantined: pd.DataFrame, users: npt.NDArray[np.int64], *, text: bool) -> pd.Series[bool]:
    """Return a mask of the bad rows with a cell that is the id of one of the users. Which cell has the id is no longer known."""
    wanted = {int(user) for user in users}

    def is_one(cell: str) -> bool:
        return number_of(cell) in wanted if text else cell.isascii() and cell.isdigit() and int(cell) in wanted

    about = quarantined["table"].isin(("interactions", "users"))
    named = [any(is_one(cell.strip()) for cell in str(cells).split(" | ")) for cells in quarantined["cells"]]
    return about & pd.Series(named, index=quarantined.index, dtype=bool)


@contextmanager
def _engine(settings: EtlSettings, folder: Path, properties: DatasetProperties) -> Iterator[Engine]:
    if settings.engine == "pandas":
        yield PandasEngine(folder, settings.memory_rows, properties)
        return
    require("dask", "etl.engine: dask", "dask", "distributed")
    from tasks.ingest.engine_dask import dask_engine

    with dask_engine(folder, settings, properties) as engine:
        yield engine


@contextmanager
def chunk_reader(settings: EtlSettings, folder: Path) -> Iterator[Callable[[EventFile], Iterator[EventChunk]]]:
    """Return what reads the chunks of an event file: this process or, by `etl.engine`, a cluster, whose workers see the file.

    Raises:
        SettingsError: There is no such cluster.
    """
    if settings.engine == "pandas":
        yield lambda file: file.chunks()
        return
    require("dask", "etl.engine: dask", "dask", "distributed")
    from tasks.ingest.engine_dask import dask_engine

    with dask_engine(folder, settings) as engine:
        yield engine.chunks
