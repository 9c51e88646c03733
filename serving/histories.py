"""The histories that datasets brought along, mapped from the store, or from a copy of it on this machine."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from configs.errors import RecsysError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from models.histories import Histories
from serving.background import BackgroundLoop, ignored

__all__ = ["HistoryShelf"]

logger = logging.getLogger(__name__)
LOOK_S = 10.0  # seconds between two looks for newer files, and for those that a removal has deleted


class HistoryShelf:
    """Keeps the newest histories of each served dataset mapped.

    A file on this machine is mapped at once. One that must be fetched first is fetched in a thread, so no start and no request waits for
    it. Without a file, or if the store fails, the users of the dataset are served by their reported events alone.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        on_change: Callable[[int], None] = lambda users: None,
        on_failure: Callable[[str], None] = ignored,
    ) -> None:
        """Create the shelf without looking at the store.

        Args:
            store: Where the files are.
            folder: For copies of files that are not on this machine. Workers share it.
            on_change: Is called with the number of users who have a history.
            on_failure: Is called with the name of the thread after a failed look.
        """
        self._store, self._folder, self._on_change = store, folder, on_change
        self._datasets: frozenset[str] = frozenset()
        self._mapped: dict[str, Histories] = {}
        self._said = ""
        self._looking = threading.Lock()
        self._loop = BackgroundLoop("histories", self.look, LOOK_S, on_failure=on_failure)

    def of(self, dataset: str) -> Histories | None:
        """Return the histories of a dataset, if they are mapped."""
        return self._mapped.get(dataset)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def close(self, timeout_s: float) -> None:
        self._loop.close(timeout_s)

    def serve(self, datasets: Collection[str]) -> None:
        """Serve the histories of these datasets from now on. What is on this machine is mapped before the call returns."""
        self._datasets = frozenset(datasets)
        if self._looking.acquire(blocking=False):  # a file may be arriving, which takes long
            try:
                with suppress(Exception):  # the loop tries it again, and reports it
                    self._look(fetching=False)
            finally:
                self._looking.release()
        self._loop.wake()

    def look(self) -> bool:
        """Look for newer files once. Return False if that failed; what was mapped stays."""
        try:
            with self._looking:
                self._look(fetching=True)
        except (RecsysError, OSError) as error:
            if str(error) != self._said:
                logger.warning(
                    "histories cannot be read; users are served by their reported events", extra={"reason": str(error)}
                )
            self._said = str(error)
            return False
        self._said = ""
        return True

    def _look(self, *, fetching: bool) -> None:
        mapped = {dataset: found for dataset, found in self._mapped.items() if dataset in self._datasets}
        faults: list[Exception] = []
        for dataset in sorted(self._datasets):
            try:
                found = self._newest(dataset, mapped.get(dataset), fetching=fetching)
            except VersionCorruptError as error:
                mapped.pop(dataset, None)
                faults.append(error)
            except (RecsysError, OSError) as error:
                faults.append(error)
            else:
                mapped.pop(dataset, None)
                if found is not None:
                    mapped[dataset] = found
        if mapped != self._mapped:
            self._mapped = mapped
        self._on_change(sum(len(found) for found in mapped.values()))
        if faults:
            raise faults[0]

    def _newest(self, dataset: str, mapped: Histories | None, *, fetching: bool) -> Histories | None:
        keys = list(self._store.list(f"histories/{dataset}/"))
        if not keys:
            self._forget_copies(dataset, keep="")
            return None
        key = keys[-1]
        name = key.rpartition("/")[2]
        if mapped is not None and mapped.name == name:
            return mapped
        path = self._store.local_file(key)
        if path is None:
            path = self._folder / dataset / name
            if not path.exists():
                if not fetching:
                    return mapped
                self._fetch(key, path)
            self._forget_copies(dataset, keep=name)
        return Histories.open(path, name)

    def _fetch(self, key: str, path: Path) -> None:
        """Copy a file to this machine. It appears under its name when it is complete and was checked."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arriving = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self._store.fetch(key, arriving)
            if sha256_of(arriving) != path.name.rpartition("-")[2]:
                raise VersionCorruptError(
                    f"{self._store.uri(key)} was changed after it was stored; `recsys data histories` writes it again."
                )
            arriving.replace(path)
        finally:
            arriving.unlink(missing_ok=True)

    def _forget_copies(self, dataset: str, keep: str) -> None:
        """Delete the copies of former files. A worker that still maps one keeps it until it looks."""
        for path in (self._folder / dataset).glob("[0-9]*"):
            if path.name != keep:
                path.unlink(missing_ok=True)
