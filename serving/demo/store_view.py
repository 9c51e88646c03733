"""Reads a store for the demo: versions, decisions, promotions, drift, and histories of real users."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from configs.errors import NotFoundError, VersionCorruptError
from infra.digests import sha256_of
from infra.registry import PAGE, ModelRef, ModelRegistry, Promotion, read_json
from infra.storage import Store
from models.columns import Columns
from models.histories import Histories as UserHistories

__all__ = ["DriftRecord", "Histories", "StoreView"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Histories:
    """Events of all users of a dataset, by user, oldest first."""

    user_ids: IntArray  # (U,) the numbers of the users, ascending
    offsets: IntArray  # (U + 1,)
    item_ids: IntArray  # (N,)
    times: IntArray  # (N,) UTC seconds
    id_of: Callable[[int], int | str]  # the team's id of the user at a place

    def of(self, user: int) -> tuple[IntArray, IntArray]:
        """Return the items and times of one user; empty if the user is not in the dataset."""
        place = int(np.searchsorted(self.user_ids, user))
        if place == len(self.user_ids) or self.user_ids[place] != user:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        return self.item_ids[rows], self.times[rows]

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class DriftRecord:
    """One measurement of drift."""

    dataset: str  # name/version
    when: datetime
    result: dict[str, Any]
    page: str | None  # key of Evidently's page


class StoreView:
    """A read-only view of a store and of one model name in it."""

    def __init__(self, store: Store, model_name: str) -> None:
        self.store, self.model_name, self._registry = store, model_name, ModelRegistry(store)

    def versions(self) -> tuple[list[ModelRef], dict[str, str]]:
        """Return the sealed versions, newest first, and those with a damaged manifest, with the reason."""
        damaged: dict[str, str] = {}
        return self._registry.versions(self.model_name, damaged)[::-1], damaged

    def promotions(self) -> list[Promotion]:
        """Return the promotion log, oldest first."""
        return self._registry.history(self.model_name)

    def json_of(self, ref: ModelRef, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the version, or None if it has none. Raises VersionCorruptError if the file was edited."""
        content = self._registry.read_file(ref, name)
        if content is None:
            return None
        found: dict[str, Any] = read_json(content, self.store.uri(f"{ref.prefix}/{name}"))
        return found

    def page_of(self, ref: ModelRef) -> str | None:
        """Return the HTML page of the gate's decision, or None if there is none. Raises VersionCorruptError if it was edited."""
        content = self._registry.read_file(ref, PAGE)
        return None if content is None else content.decode()

    def drift(self) -> list[DriftRecord]:
        """Return all drift measurements of all datasets, oldest first."""
        keys = set(self.store.list("drift/"))
        found = []
        for key in sorted(key for key in keys if key.endswith(".json")):
            _, name, version, stamp = key.removesuffix(".json").split("/")
            page = key.removesuffix(".json") + ".html"
            result = read_json(self.store.get(key), self.store.uri(key))
            found.append(DriftRecord(f"{name}/{version}", _time_of(stamp), result, page if page in keys else None))
        return sorted(found, key=lambda record: record.when)

    def histories(self, dataset: str, work_dir: Path) -> Histories:
        """Return the events of a dataset version `name/version`, or the latest events of its users if it is stored in parts.

        Args:
            dataset: The version.
            work_dir: Folder for a copy of stored histories.

        Raises:
            NotFoundError: If it is not in the store, or is stored in parts without histories.
            VersionCorruptError: If it was edited.
        """
        prefix = f"datasets/{dataset}"
        try:
            manifest = read_json(self.store.get(f"{prefix}/manifest.json"), self.store.uri(prefix))
        except NotFoundError as error:
            raise NotFoundError(f"The dataset {dataset} is no longer in the store: build a history by hand.") from error
        if "files" not in manifest:  # a version that files of a landing zone were added to
            return self._stored_histories(dataset, work_dir)
        file = self._parquet(f"{prefix}/interactions.parquet", manifest)
        names = [Columns.stored_as(name, file.schema_arrow.names) for name in (Columns.USER, Columns.ITEM, Columns.TIME)]
        table = file.read(names)
        users, items, times = (table[name].to_numpy().astype(np.int64) for name in names)
        order = np.lexsort((times, users))
        users = users[order]
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.empty(0, np.int64)
        ids: Sequence[int | str] = users[starts].tolist()
        if "user_ids.parquet" in manifest["files"]:
            named = self._parquet(f"{prefix}/user_ids.parquet", manifest).read()
            texts = dict(zip(named[Columns.USER].to_pylist(), named[Columns.EXTERNAL_ID].to_pylist(), strict=True))
            ids = [texts[user] for user in ids]
        return Histories(users[starts], np.r_[starts, len(users)].astype(np.int64), items[order], times[order], ids.__getitem__)

    def _stored_histories(self, dataset: str, work_dir: Path) -> Histories:
        name = dataset.partition("/")[0]
        keys = list(self.store.list(f"histories/{name}/"))
        if not keys:
            raise NotFoundError(
                f"The dataset {dataset} is stored in parts, and its users' histories are not: run `recsys data histories`, or build a "
                "history by hand."
            )
        file = keys[-1].rpartition("/")[2]
        path = self.store.local_file(keys[-1]) or work_dir / "histories" / name / file
        if not path.exists():
            self.store.fetch(keys[-1], path)
        found = UserHistories.open(path, file)
        return Histories(found.users, found.offsets, found.items, found.times, found.id_of)

    def _parquet(self, key: str, manifest: dict[str, Any]) -> pq.ParquetFile:
        content = self.store.get(key)
        if sha256_of(content) != manifest["files"][key.rpartition("/")[2]]:
            raise VersionCorruptError(f"{self.store.uri(key)} differs from its manifest: it was changed after it was stored.")
        return pq.ParquetFile(io.BytesIO(content))

    @cached_property
    def place(self) -> str:
        return self.store.uri("").rstrip("/")


def _time_of(stamp: str) -> datetime:
    """Parse the time in the last part of a key, `YYYYMMDDTHHMMSS...Z`."""
    return datetime.strptime(stamp[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
