"""The ETL engine on a Dask cluster: the same models and functions as in one process, on Dask DataFrames."""

# mypy: allow-untyped-calls
# (Dask has few type annotations.)
from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.delayed import delayed
from distributed import Client, KilledWorker, wait
from distributed.client import ClosedClientError, FuturesCancelledError
from distributed.comm.core import CommClosedError
from pandera.pandas import DataFrameModel

from configs.errors import SettingsError
from configs.settings import EtlSettings
from models.columns import Columns
from tasks.ingest.events import EventChunk, EventFile
from tasks.ingest.features import build_features, counts_before, user_features
from tasks.ingest.merge import deduplicate_latest
from tasks.ingest.row_account import RowAccount, TakeIds, events_of_file
from tasks.tables import PLAIN, DatasetProperties, ParquetWriter, added_counts, cut_points, empty_table, interaction_model

__all__ = ["DaskEngine", "dask_engine"]

IntArray = npt.NDArray[np.int64]
PLACED = empty_table((Columns.ITEM, Columns.TIME, Columns.POSITION))
BEFORE = "before"
COUNTS = empty_table((Columns.POSITION, BEFORE))
KEPT = "kept"
ANSWER_S = 30  # the scheduler must answer, and a worker must be there, within this time
LOOK_S = 2  # between looks whether there are workers
CHUNKS_AHEAD = 16  # of a file that a landing zone reads


class _LostClusterError(Exception):
    """The cluster has no workers left."""


LOST = (CancelledError, ClosedClientError, CommClosedError, FuturesCancelledError, KilledWorker, _LostClusterError)


@contextmanager
def dask_engine(folder: Path, settings: EtlSettings, properties: DatasetProperties = PLAIN) -> Iterator[DaskEngine]:
    """Return an engine for a dataset with these properties, on the cluster at `settings.scheduler_address`.

    Raises:
        SettingsError: No scheduler answers there, it has no workers, or the cluster is lost during the block.
    """
    address = str(settings.scheduler_address)
    said = f"etl.scheduler_address is {address}, but"
    remedy = "with workers, correct the address, or set etl.engine to pandas."
    try:
        client = Client(address, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{said} no Dask scheduler answers there ({error}). Start one (`dask scheduler`) {remedy}") from error
    try:
        with client:
            try:
                client.wait_for_workers(1, timeout=ANSWER_S)
            except TimeoutError as error:
                raise SettingsError(
                    f"{said} the scheduler there has had no worker for {ANSWER_S} s. Start some (`dask worker {address}`), or set "
                    "etl.engine to pandas."
                ) from error
            yield DaskEngine(client, folder.resolve(), settings.memory_rows, properties)
    except LOST as error:
        why = " ".join(str(error).split())[:200]
        raise SettingsError(
            f"{said} the cluster was lost during the run ({why}). Nothing was stored. Start it again {remedy}"
        ) from error


class DaskEngine:
    """The engine on Dask workers, all of which must see `folder`.

    Partitions have at most `memory_rows` events, or more if a single user or item has more.
    """

    def __init__(self, client: Client, folder: Path, memory_rows: int, properties: DatasetProperties = PLAIN) -> None:
        self._client, self._folder, self._memory_rows = client, folder, memory_rows
        self._properties = properties
        self._events = empty_table(properties.with_weight(Columns.INTERACTION))
        self._file_events = empty_table(properties.with_weight(Columns.FILE_EVENT))
        self._accepted: list[Any] = []  # futures of events, by chunk
        self._deduplicated: dd.DataFrame | None = None

    def chunks(self, file: EventFile) -> Iterator[EventChunk]:
        """Yield what `file.chunks()` yields. The workers parse and check the rows."""
        seen = replace(file, path=file.path.resolve())
        blocks, waiting, start = seen.blocks(), deque[Any](), 0
        while blocks or waiting:
            while blocks and len(waiting) < CHUNKS_AHEAD:
                waiting.append(self._client.submit(seen.read, blocks.pop(0), pure=False))
            chunk: EventChunk = self._results([waiting.popleft()])[0]
            if chunk.rows:
                yield chunk.following(start)
            start += chunk.rows

    def read(self, file: EventFile, account: RowAccount, ordinal: int, take_ids: TakeIds) -> None:
        seen = replace(file, path=file.path.resolve())
        chunks = self._client.map(seen.read, seen.blocks(), pure=False)
        starts = []
        for chunk in chunks:
            rest: EventChunk = self._results([self._client.submit(_without_events, chunk, pure=False)])[0]
            starts.append(account.rows)
            account.add(rest.rows, rest.following(account.rows).quarantined, rest.left_out)
            take_ids(rest.ids)
        self._accepted += self._client.map(_good_rows, chunks, starts, ordinal=ordinal, pure=False)

    def write_interactions(self, out: Path) -> pd.DataFrame:
        accepted = dd.from_delayed(self._accepted, meta=self._file_events)
        marked = self._events.assign(**{KEPT: pd.Series(dtype=bool)})
        together = self._by(accepted, Columns.USER).map_partitions(_deduplicated, self._properties, meta=marked).persist()
        kept = together[together[KEPT]][list(self._events)]
        self._deduplicated = _validated(interaction_model(self._properties), kept).persist()
        self._collect(self._deduplicated, out)
        superseded: list[pd.DataFrame] = self._computed([delayed(_superseded)(part) for part in together.to_delayed()])
        return pd.concat(superseded, ignore_index=True)

    def write_features(self, interactions: Path, out: Path, superseded: pd.DataFrame) -> tuple[IntArray, IntArray]:
        assert self._deduplicated is not None
        parts = self._deduplicated.to_delayed()
        users = self._computed([delayed(_distinct)(part, Columns.USER) for part in parts])
        lengths = self._computed([delayed(len)(part) for part in parts])
        starts = [0, *np.cumsum(lengths)]
        first_users = [0, *np.cumsum([len(ids) for ids in users])]
        placed = [delayed(_placed)(part, start) for part, start in zip(parts, starts[:-1], strict=True)]
        items = self._by(dd.from_delayed(placed, meta=PLACED), Columns.ITEM).persist()
        item_ids = np.concatenate(self._computed([delayed(_distinct)(part, Columns.ITEM) for part in items.to_delayed()]))
        counts = items.map_partitions(_counted, superseded, meta=COUNTS)
        divisions = [*starts[:-1], starts[-1] - 1]  # the same divisions as the events
        counts = counts.set_index(Columns.POSITION, divisions=[int(place) for place in divisions])
        features = [
            delayed(_features)(part, ids, item_ids, count, first, superseded)
            for part, ids, count, first in zip(parts, users, counts.to_delayed(), first_users[:-1], strict=True)
        ]
        self._collect(dd.from_delayed(features, meta=build_features(self._events)), out)
        return np.concatenate(users), item_ids

    def _by(self, events: dd.DataFrame, key: str) -> dd.DataFrame:
        """Repartition the events. Each key is in one partition, and keys ascend from partition to partition."""
        keys = counts = np.empty(0, dtype=np.int64)
        for more, their in self._computed([delayed(np.unique)(part[key], return_counts=True) for part in events.to_delayed()]):
            keys, counts = added_counts(keys, counts, more, their)
        cuts = cut_points(keys, counts, self._memory_rows)
        divisions = [int(place) for place in (keys[0], *cuts, keys[-1])]
        together = events.set_index(key, divisions=divisions).map_partitions(_plain_index, list(events), meta=events._meta)
        return cast(dd.DataFrame, together)

    def _collect(self, frames: dd.DataFrame, out: Path) -> None:
        """Write the partitions, in order, as one Parquet file."""
        with TemporaryDirectory(prefix="collected-", dir=self._folder) as folder:
            paths = [Path(folder) / f"{number}.parquet" for number in range(frames.npartitions)]
            self._computed([delayed(_write)(part, path) for part, path in zip(frames.to_delayed(), paths, strict=True)])
            with ParquetWriter(out) as writer:
                for path in paths:
                    writer.write(pd.read_parquet(path))
                    path.unlink()

    def _computed(self, tasks: list[Any]) -> list[Any]:
        return self._results(self._client.compute(tasks))

    def _results(self, futures: list[Any]) -> list[Any]:
        """Wait for results. A cluster without workers would let one wait for ever, so it is asked for them.

        Raises:
            _LostClusterError: There has been no worker for ANSWER_S.
        """
        alone_since: float | None = None
        while True:
            try:
                wait(futures, timeout=LOOK_S)
            except TimeoutError:
                alone_since = None if self._client.nthreads() else alone_since or time.monotonic()
                if alone_since is not None and time.monotonic() - alone_since > ANSWER_S:
                    raise _LostClusterError(f"it has had no worker for {ANSWER_S} s") from None
            else:
                return list(self._client.gather(futures))


def _validated(model: type[DataFrameModel], events: dd.DataFrame) -> dd.DataFrame:
    """Validate each partition on its worker, with pandera's Dask backend. Its annotations cover only pandas."""
    return cast(dd.DataFrame, model.validate(cast(Any, events)))


def _without_events(chunk: EventChunk) -> EventChunk:
    """Return what the account of a chunk needs, and its text ids."""
    return replace(chunk, accepted=chunk.accepted.iloc[:0])


def _good_rows(chunk: EventChunk, start: int, ordinal: int) -> pd.DataFrame:
    return events_of_file(chunk.following(start).accepted, ordinal)


def _plain_index(events: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return events.reset_index()[columns]


def _deduplicated(events: pd.DataFrame, properties: DatasetProperties) -> pd.DataFrame:
    columns = list(properties.with_weight(Columns.FILE_EVENT))
    kept, superseded = deduplicate_latest(events[columns], keep_repeats=properties.keeps_repeats)
    both = pd.concat([kept.assign(**{KEPT: True}), superseded.assign(**{KEPT: False})], ignore_index=True)
    return both.drop(columns=Columns.FILE)


def _superseded(events: pd.DataFrame) -> pd.DataFrame:
    return events.loc[~events[KEPT], list(Columns.HAPPENED)]


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
