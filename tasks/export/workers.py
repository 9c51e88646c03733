"""Computes the pieces of an export: in this process, or on the workers of a Dask cluster."""

# mypy: allow-untyped-calls
# (Dask has few type annotations.)
from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from configs.errors import SettingsError
from configs.kinds import plugins_in_use, register
from configs.settings import EtlSettings
from tasks.export.answers import answers_in
from tasks.export.plan import ExportPlan
from tasks.export.users import Piece

__all__ = ["Work", "Workers", "workers_of"]

ANSWER_S = 30  # the scheduler must answer, and a worker must be there, within this time
LOOK_S = 2
AHEAD = 2  # pieces that each thread of the cluster may have waiting
Work = tuple[Piece, pa.Array]  # users with their events, and the team's own ids of the users


class Workers(Protocol):
    """Where pieces are computed."""

    def compute(self, folder: Path, plan: ExportPlan, work: Iterator[Work]) -> Iterator[tuple[int, int, dict[str, bytes]]]:
        """Yield the number of each piece, how many users it has, and its Parquet files by part.

        Args:
            folder: Folder of the version's files.
            plan: What is exported.
            work: The pieces.
        """


class _Here:
    def compute(self, folder: Path, plan: ExportPlan, work: Iterator[Work]) -> Iterator[tuple[int, int, dict[str, bytes]]]:
        for piece, names in work:
            yield piece.number, len(piece), answers_in(folder).tables(piece, names, plan)


class _Cluster:
    """The workers of a Dask cluster. They read the version and the pieces from a folder that they share with this process."""

    def __init__(self, client: Any, folder: Path) -> None:
        self._client, self._folder = client, folder

    def compute(self, folder: Path, plan: ExportPlan, work: Iterator[Work]) -> Iterator[tuple[int, int, dict[str, bytes]]]:
        waiting: deque[tuple[Path, Any]] = deque()
        for piece, names in work:
            path = self._folder / f"{piece.number:06d}.npz"
            _write(path, piece)
            waiting.append(
                (path, self._client.submit(_tables_of, folder.resolve(), path, names, plan, plugins_in_use(), pure=False))
            )
            if len(waiting) >= AHEAD * max(sum(self._client.nthreads().values()), 1):
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def _result(self, path: Path, future: Any) -> tuple[int, int, dict[str, bytes]]:
        from distributed import wait

        alone_since: float | None = None
        while True:
            try:
                wait([future], timeout=LOOK_S)
            except TimeoutError:
                alone_since = None if self._client.nthreads() else alone_since or time.monotonic()
                if alone_since is not None and time.monotonic() - alone_since > ANSWER_S:
                    raise ConnectionError(f"it has had no worker for {ANSWER_S} s") from None
            else:
                found: tuple[int, int, dict[str, bytes]] = future.result()
                path.unlink(missing_ok=True)
                return found


@contextmanager
def workers_of(settings: EtlSettings, folder: Path) -> Iterator[Workers]:
    """Provide where pieces are computed, as `etl.engine` says.

    Args:
        settings: The engine. The workers of a cluster must see its work_dir under the same path.
        folder: A folder in work_dir for the pieces.

    Raises:
        SettingsError: There is no cluster, it has no workers, or it is lost during the block.
    """
    if settings.engine == "pandas":
        yield _Here()
        return
    from concurrent.futures import CancelledError

    from distributed import Client, KilledWorker

    said = f"etl.scheduler_address is {settings.scheduler_address}, but"
    remedy = "Start one with workers, correct the address, or set etl.engine to pandas."
    try:
        client = Client(str(settings.scheduler_address), timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{said} no Dask scheduler answers there ({error}). {remedy}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=ANSWER_S)
            yield _Cluster(client, folder.resolve())
        except TimeoutError as error:
            raise SettingsError(f"{said} the scheduler there has had no worker for {ANSWER_S} s. {remedy}") from error
        except (CancelledError, KilledWorker, ConnectionError) as error:
            why = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"{said} the cluster was lost during the export ({why}). The files written so far are kept, and the same command goes on "
                f"after them. {remedy}"
            ) from error


def _write(path: Path, piece: Piece) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            number=np.array(piece.number),
            user_ids=piece.user_ids,
            offsets=piece.offsets,
            item_ids=piece.item_ids,
            timestamps=piece.timestamps,
        )


def _tables_of(
    folder: Path, path: Path, names: pa.Array, plan: ExportPlan, plugins: tuple[str, ...]
) -> tuple[int, int, dict[str, bytes]]:
    register(plugins)
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in ("user_ids", "offsets", "item_ids", "timestamps")}
        piece = Piece(int(stored["number"]), **arrays)
    return piece.number, len(piece), answers_in(folder).tables(piece, names, plan)
