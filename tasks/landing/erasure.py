"""Take an erased user out of a dataset, whether a landing zone or a release made it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import AlreadyExistsError, DataRefusedError, NotFoundError
from configs.settings import EtlSettings, LandingSettings
from infra.storage import Store
from models.columns import Columns
from tasks.datasets import (
    DatasetRef,
    LandingLog,
    ReleaseVersion,
    Removal,
    forget_histories,
    history_keys,
    list_datasets,
    read_manifest,
    read_table,
    renew_histories,
    write_dataset,
)
from tasks.ingest import Release, ValidationReport, without_users
from tasks.landing.removal import remove
from tasks.tables import ID_TABLES, DatasetProperties

__all__ = ["Erased", "erase_from_datasets"]


@dataclass(frozen=True)
class Erased:
    """What became of one dataset."""

    dataset: str
    done: str
    remains: tuple[str, ...] = ()  # name/version of the older versions that have the user


def erase_from_datasets(store: Store, number: int, landing: LandingSettings, engine: EtlSettings, now: float) -> list[Erased]:
    """Make a new version without the user of each dataset whose newest version has the user.

    Args:
        store: Store of the datasets.
        number: Number of the user.
        landing: How often another run may be faster.
        engine: Folder for the work, and how many events are in memory at once.
        now: UTC seconds.
    """
    found = []
    removal = Removal("erasure", "recsys data erase", number)
    for name in sorted({ref.name for ref in list_datasets(store)}):
        try:
            if LandingLog(store, name).head() is None:
                said = _erased_from_release(store, name, number, engine)
            else:
                ref, entry = remove(store, name, removal, landing, engine.work_dir, now)
                events = 0 if entry.removal is None else entry.removal.events
                said = f"{events:,} events removed; version {ref.version}"
        except NotFoundError:
            said = "has nothing of the user"
        except (DataRefusedError, AlreadyExistsError) as error:
            said = f"failed: {error}"
        found.append(Erased(name, said, tuple(_with_user(store, name, number))))
    return found


def _erased_from_release(store: Store, name: str, number: int, engine: EtlSettings) -> str:
    """Make a version without a user of the newest version of a dataset. Returns what was done.

    Raises:
        NotFoundError: The newest version has nothing of the user.
        DataRefusedError: No event would be left.
    """
    before = [ref for ref in list_datasets(store) if ref.name == name][-1]
    engine.work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="erasure-", dir=engine.work_dir) as folder:
        manifest = read_manifest(store, name, before.version)
        stored = _fetched(ReleaseVersion(store, name, before.version, manifest), Path(folder))
        left = without_users(stored, np.array([number]), Path(folder), engine.memory_rows)
        if left is stored:
            raise NotFoundError(f"{name}/{before.version} has nothing of the user.")
        had_histories = bool(history_keys(store, name))
        forget_histories(store, name)
        after = write_dataset(store, name, left, left.features, manifest["source_hashes"], [f"{name}/{before.version}"])
        renew_histories(store, name, needed=had_histories)
    return f"{before.rows - after.rows:,} events removed; version {after.version}"


def _fetched(version: ReleaseVersion, folder: Path) -> Release:
    """Return a stored version as a release, with its large tables as files of the folder."""

    def file(table: str) -> Path:
        version.stored(table, [])  # it was not changed since
        path = folder / f"{table}.parquet"
        path.write_bytes(version.store.get(f"{version.prefix}/{table}.parquet"))
        return path

    def has(table: str) -> bool:
        return f"{table}.parquet" in version.manifest["files"]

    nothing = pd.DataFrame({name: np.empty(0, np.int64) for name in Columns.HAPPENED})
    rows = pd.DataFrame(columns=["table", "row", "reasons", "cells"])
    return Release(
        interactions=file("interactions"),
        features=file("features"),
        items=version.stored("items"),
        users=version.stored("users"),
        quarantined=version.stored("quarantine") if has("quarantine") else rows,
        report=ValidationReport.from_dict(version.manifest["validation"]),
        superseded=version.stored(version.SUPERSEDED) if has(version.SUPERSEDED) else nothing,
        properties=DatasetProperties.from_manifest(version.manifest),
        ids={table: file(table) for table in ID_TABLES.values() if has(table)},
    )


def _with_user(store: Store, name: str, number: int) -> list[str]:
    """Return the versions of a dataset that have a user."""
    versions: list[DatasetRef] = [ref for ref in list_datasets(store) if ref.name == name]
    return [
        f"{name}/{ref.version}"
        for ref in versions
        if (read_table(store, ref, "users", [Columns.USER])[Columns.USER] == number).any()
    ]
