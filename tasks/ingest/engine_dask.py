"""The ETL engine on a Dask cluster: the same models and functions as in one process, on Dask DataFrames."""

# mypy: allow-untyped-calls
# (Dask has few type annotations.)
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.base import compute
from dask.delayed import delayed
from distributed import Client
from pandera.pandas import DataFrameModel

from configs.errors import SettingsError
from configs.settings import EtlSettings
from models.columns import Columns
from tasks.ingest.event_files import EventChunk, EventFile
from tasks.ingest.features import build_features, counts_before, user_features
from tasks.ingest.merge import deduplicate_latest
from tasks.ingest.row_account import RowAccount
from tasks.ingest.validation import AcceptedModel, InteractionModel
from tasks.tables import ParquetWriter, added_counts, cut_points, empty_table

__all__ = ["DaskEngine", "dask_engine"]

IntArray = npt.NDArray[np.int64]
EVENTS = empty_table(Columns.INTERACTION)
PLACED = empty_table((Columns.ITEM, Columns.TIME, Columns.POSITION))
BEFORE = "before"
COUNTS = empty_table((Columns.POSITION, BEFORE))
KEPT = "kept"
ANSWER_S = 30  # timeout for the scheduler to answer


@contextmanager
def dask_engine(folder: Path, settings: EtlSettings) -> Iterator[DaskEngine]:
    """Return an engine on the cluster at `settings.scheduler_address`. Raises SettingsError if no scheduler answers there."""
    address = str(settings.scheduler_address)
    try:
        client = Client(address, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"etl.scheduler_address is {address}, but no Dask scheduler answers there ({error}). Start one "
            "(`dask scheduler`) with workers, correct the address, or set etl.engine to pandas."
        ) from error
    with client:
        yield DaskEngine(client, folder.resolve(), settings.memory_rows)


class DaskEngine:
    """The engine on Dask workers, all of which must see `folder`.

    Partitions have at most `memory_rows` events, or more if a single user or item has more.
    """

    def __init__(self, client: Client, folder: Path, memory_rows: int) -> None:
        self._client, self._folder, self._memory_rows = client, folder, memory_rows
        self._accepted: dd.DataFrame | None = None
        self._deduplicated: dd.DataFrame | None = None

    def read(self, file: EventFile, account: RowAccount) -> None:
        seen = replace(file, path=file.path.resolve())
        chunks = self._client.map(seen.read, seen.blocks(), pure=False)
        starts = []
        for chunk in chunks:
            rows, quarantined = self._client.submit(_bad_rows, chunk, pure=False).result()
            starts.append(account.rows)
            account.add(rows, quarantined.assign(**{Columns.ROW: quarantined[Columns.ROW] + account.rows}))
        if account.rows:
            events = self._client.map(_good_rows, chunks, starts, pure=False)
            self._accepted = _validated(AcceptedModel, dd.from_delayed(events, meta=EVENTS)).persist()

    def write_interactions(self, out: Path) -> pd.DataFrame:
        assert self._accepted is not None
        together = (
            self._by(self._accepted, Columns.USER).map_partitions(_deduplicated, meta=EVENTS.assign(**{KEPT: True})).persist()
        )
        self._deduplicated = _validated(InteractionModel, together[together[KEPT]][list(EVENTS)]).persist()
        self._collect(self._deduplicated, out)
        superseded: pd.DataFrame = together[~together[KEPT]][list(EVENTS)].compute()
        return superseded.reset_index(drop=True)

    def write_features(self, interactions: Path, out: Path, superseded: pd.DataFrame) -> tuple[IntArray, IntArray]:
        assert self._deduplicated is not None
        parts = self._deduplicated.to_delayed()
        users = list(compute(*(delayed(_distinct)(part, Columns.USER) for part in parts)))
        lengths = compute(*(delayed(len)(part) for part in parts))
        starts = [0, *np.cumsum(lengths)]
        first_users = [0, *np.cumsum([len(ids) for ids in users])]
        placed = [delayed(_placed)(part, start) for part, start in zip(parts, starts[:-1], strict=True)]
        items = self._by(dd.from_delayed(placed, meta=PLACED), Columns.ITEM).persist()
        item_ids = np.concatenate(compute(*(delayed(_distinct)(part, Columns.ITEM) for part in items.to_delayed())))
        counts = items.map_partitions(_counted, superseded, meta=COUNTS)
        divisions = [*starts[:-1], starts[-1] - 1]  # the same divisions as the events
        counts = counts.set_index(Columns.POSITION, divisions=[int(place) for place in divisions])
        features = [
            delayed(_features)(part, ids, item_ids, count, first, superseded)
            for part, ids, count, first in zip(parts, users, counts.to_delayed(), first_users[:-1], strict=True)
        ]
        self._collect(dd.from_delayed(features, meta=build_features(EVENTS)), out)
        return np.concatenate(users), item_ids

    def _by(self, events: dd.DataFrame, key: str) -> dd.DataFrame:
        """Repartition the events. Each key is in one partition, and keys ascend from partition to partition."""
        keys = counts = np.empty(0, dtype=np.int64)
        for more, their in compute(*(delayed(np.unique)(part[key], return_counts=True) for part in events.to_delayed())):
            keys, counts = added_counts(keys, counts, more, their)
        cuts = cut_points(keys, counts, self._memory_rows)
        divisions = [int(place) for place in (keys[0], *cuts, keys[-1])]
        together = events.set_index(key, divisions=divisions).map_partitions(_plain_index, list(events), meta=events._meta)
        return cast(dd.DataFrame, together)

    def _collect(self, frames: dd.DataFrame, out: Path) -> None:
        """Write the partitions, in order, as one Parquet file."""
        with TemporaryDirectory(prefix="collected-", dir=self._folder) as folder:
            paths = [Path(folder) / f"{number}.parquet" for number in range(frames.npartitions)]
            compute(*(delayed(_write)(part, path) for part, path in zip(frames.to_delayed(), paths, strict=True)))
            with ParquetWriter(out) as writer:
                for path in paths:
                    writer.write(pd.read_parquet(path))
                    path.unlink()


def _validated(model: type[DataFrameModel], events: dd.DataFrame) -> dd.DataFrame:
    """Validate each partition on its worker, with pandera's Dask backend. Its annotations cover only pandas."""
    return cast(dd.DataFrame, model.validate(cast(Any, events)))


def _bad_rows(chunk: EventChunk) -> tuple[int, pd.DataFrame]:
    return chunk.rows, chunk.quarantined


def _good_rows(chunk: EventChunk, start: int) -> pd.DataFrame:
    return chunk.accepted.assign(**{Columns.ROW: chunk.accepted[Columns.ROW] + start})


def _plain_index(events: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return events.reset_index()[columns]


def _deduplicated(events: pd.DataFrame) -> pd.DataFrame:
    kept, superseded = deduplicate_latest(events.assign(**{Columns.FILE: np.int64(0)}))
    both = pd.concat([kept.assign(**{KEPT: True}), superseded.assign(**{KEPT: False})], ignore_index=True)
    return both.drop(columns=Columns.FILE)


def _distinct(events: pd.DataFrame, column: str) -> IntArray:
    return np.unique(events[column].to_numpy(np.int64))


def _placed(events: pd.DataFrame, start: int) -> pd.DataFrame:
    return events[[Columns.ITEM, Columns.TIME]].assign(**{Columns.POSITION: np.arange(start, start + len(events))})


def _counted(events: pd.DataFrame, superseded: pd.DataFrame) -> pd.DataFrame:
    before = counts_before(events[Columns.ITEM].to_numpy(np.int64), events[Columns.TIME].to_numpy(np.int64), superseded)
    return pd.DataFrame({Columns.POSITION: events[Columns.POSITION].to_numpy(np.int64), BEFORE: before})


def _features(
    events: pd.DataFrame, user_ids: IntArray, item_ids: IntArray, counts: pd.DataFrame, first: int, superseded: pd.DataFrame
) -> pd.DataFrame:
    before = counts[BEFORE].sort_index().to_numpy(np.int64)
    return user_features(events, user_ids, item_ids, before, first_user=first, superseded=superseded)


def _write(frame: pd.DataFrame, path: Path) -> None:
    with ParquetWriter(path, temporary=True) as writer:
        writer.write(frame)
