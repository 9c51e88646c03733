"""The events of real users, as the dataset of a version stores them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from configs.errors import NotFoundError, VersionCorruptError
from infra.digests import sha256_of
from infra.registry import read_json
from infra.storage import Store
from models.columns import Columns
from models.histories import Histories as LatestEvents

__all__ = ["NO_EVENTS", "Events", "Histories", "read_histories"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Events(NamedTuple):
    """A user's events, oldest first."""

    item_ids: IntArray  # (E,) numbers of the items
    times: IntArray  # (E,) UTC seconds
    ratings: FloatArray | None = None  # (E,) NaN where none is known; None if the data has no ratings

    def at(self, chosen: npt.NDArray[np.bool_] | IntArray) -> Events:
        """Return the chosen events, by a mask or by their places."""
        return Events(self.item_ids[chosen], self.times[chosen], None if self.ratings is None else self.ratings[chosen])


NO_EVENTS = Events(np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Histories:
    """Events of all users of a dataset, by user, oldest first."""

    user_ids: IntArray  # (U,) the numbers of the users, ascending
    offsets: IntArray  # (U + 1,)
    item_ids: IntArray  # (N,)
    times: IntArray  # (N,) UTC seconds
    id_of: Callable[[int], int | str]  # the team's id of the user at a place
    rate: Callable[[int, slice], FloatArray] | None = None  # the ratings of a user and of the rows of the user's events

    def of(self, user: int) -> Events:
        """Return the events of one user; none if the user is not in the dataset."""
        place = int(np.searchsorted(self.user_ids, user))
        if place == len(self.user_ids) or self.user_ids[place] != user:
            return NO_EVENTS
        rows = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        ratings = None if self.rate is None else self.rate(user, rows)
        return Events(self.item_ids[rows], self.times[rows], ratings)


def read_histories(store: Store, dataset: str, work_dir: Path) -> Histories:
    """Return the events of a dataset version `name/version`, or the latest events of its users if it is stored in parts.

    Args:
        store: Store of the dataset.
        dataset: The version.
        work_dir: Folder for copies of stored files.

    Raises:
        NotFoundError: If it is not in the store, or is stored in parts without histories.
        VersionCorruptError: If it was edited.
    """
    prefix = f"datasets/{dataset}"
    try:
        manifest = read_json(store.get(f"{prefix}/manifest.json"), store.uri(prefix))
    except NotFoundError as error:
        raise NotFoundError(f"The dataset {dataset} is no longer in the store: build a history by hand.") from error
    if "files" not in manifest:  # a version that files of a landing zone were added to
        return _latest_events(store, dataset, manifest, work_dir)
    file = _parquet(store, f"{prefix}/interactions.parquet", manifest)
    stored = file.schema_arrow.names
    names = [Columns.stored_as(name, stored) for name in (Columns.USER, Columns.ITEM, Columns.TIME)]
    rated = _is_rated(manifest) and Columns.RATING in stored
    table = file.read([*names, *([Columns.RATING] if rated else [])])
    users, items, times = (table[name].to_numpy().astype(np.int64) for name in names)
    order = np.lexsort((times, users))
    users = users[order]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.empty(0, np.int64)
    ids: Sequence[int | str] = users[starts].tolist()
    if "user_ids.parquet" in manifest["files"]:
        named = _parquet(store, f"{prefix}/user_ids.parquet", manifest).read()
        texts = dict(zip(named[Columns.USER].to_pylist(), named[Columns.EXTERNAL_ID].to_pylist(), strict=True))
        ids = [texts[user] for user in ids]
    ratings = table[Columns.RATING].to_numpy().astype(np.float64)[order] if rated else None
    return Histories(
        users[starts],
        np.r_[starts, len(users)].astype(np.int64),
        items[order],
        times[order],
        ids.__getitem__,
        None if ratings is None else lambda user, rows: ratings[rows],
    )


def _is_rated(manifest: Mapping[str, Any]) -> bool:
    """Whether events have ratings. Manifests of MovieLens's kind of data do not say so."""
    return bool(manifest.get("feedback", "explicit") == "explicit")


def _latest_events(store: Store, dataset: str, manifest: Mapping[str, Any], work_dir: Path) -> Histories:
    name = dataset.partition("/")[0]
    keys = list(store.list(f"histories/{name}/"))
    if not keys:
        raise NotFoundError(
            f"The dataset {dataset} is stored in parts, and its users' histories are not: run `recsys data histories`, or build a "
            "history by hand."
        )
    file = keys[-1].rpartition("/")[2]
    path = _local(store, keys[-1], work_dir / "histories" / name / file)
    found = LatestEvents.open(path, file)
    parts = [part["events"] for part in manifest.get("layout", {}).get("parts", [])]
    rated = _RatedParts(store, parts, found, work_dir / "parts" / name) if parts and _is_rated(manifest) else None
    return Histories(found.users, found.offsets, found.items, found.times, found.id_of, rated)


class _RatedParts:
    """The ratings in the parts of a version. A part is sorted by user, so that a look-up reads little of it."""

    def __init__(self, store: Store, parts: Sequence[Mapping[str, Any]], found: LatestEvents, folder: Path) -> None:
        self._found = found
        self._paths: list[Path] = []
        for part in parts:
            key = str(part["key"])
            path = _local(store, key, folder / key.rpartition("/")[2])
            if sha256_of(path) != part["sha256"]:
                raise _changed(store, key)
            self._paths.append(path)

    def __call__(self, user: int, rows: slice) -> FloatArray:
        rated: dict[tuple[int, int], float] = {}
        for path in self._paths:  # a later part supersedes an earlier one
            names = pq.read_schema(path).names
            columns = [Columns.stored_as(name, names) for name in (Columns.ITEM, Columns.TIME, Columns.RATING)]
            table = pq.read_table(path, columns=columns, filters=[(Columns.stored_as(Columns.USER, names), "=", user)])
            items, times, ratings = (table[name].to_pylist() for name in columns)
            rated.update(zip(zip(items, times, strict=True), ratings, strict=True))
        events = zip(self._found.items[rows].tolist(), self._found.times[rows].tolist(), strict=True)
        return np.array([rated.get(event) for event in events], np.float64)


def _local(store: Store, key: str, path: Path) -> Path:
    """Return a stored file on this machine; it is copied to `path` if the store is remote."""
    found = store.local_file(key) or path
    if not found.exists():
        store.fetch(key, found)
    return found


def _parquet(store: Store, key: str, manifest: Mapping[str, Any]) -> pq.ParquetFile:
    content = store.get(key)
    if sha256_of(content) != manifest["files"][key.rpartition("/")[2]]:
        raise _changed(store, key)
    return pq.ParquetFile(io.BytesIO(content))


def _changed(store: Store, key: str) -> VersionCorruptError:
    return VersionCorruptError(f"{store.uri(key)} differs from its manifest: it was changed after it was stored.")
