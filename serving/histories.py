"""The histories that datasets brought along, mapped from the store, or from a copy of it on this machine."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from configs.clock import wall_clock
from configs.errors import RecsysError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from models.histories import Histories
from serving.background import BackgroundLoop, ignored

__all__ = ["HistoryShelf"]

logger = logging.getLogger(__name__)
LOOK_S = 10.0  # seconds between two looks for newer files, and for those that a removal has deleted
LEFT_S = 3600.0  # seconds after which a copy that nobody writes to was left by a killed worker


class HistoryShelf:
    """Keeps the newest histories of each served dataset mapped.

    A file on this machine is mapped at once. One that must be fetched first is fetched in a thread, so no start and no request waits for
    it. A mapped file that the store no longer has is dropped before anything is fetched, because a removal deletes it. Without a file the
    users of the dataset are served by their reported events alone. If the store fails, what is mapped stays.
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
        """Look for newer files once. Return False if that failed; what was mapped stays, unless the store no longer has it."""
        try:
            with self._looking:
                self._look(fetching=True)
        except (RecsysError, OSError) as error:
            if str(error) != self._said:
                logger.warning(
                    "newer histories cannot be read; users without mapped ones are served by their reported events",
                    extra={"reason": str(error)},
                )
            self._said = str(error)
            return False
        self._said = ""
        return True

    def _look(self, *, fetching: bool) -> None:
        datasets, listed = self._datasets, dict[str, list[str]]()
        faults: list[Exception] = []
        for dataset in sorted(datasets):
            try:
                listed[dataset] = [key.rpartition("/")[2] for key in self._store.list(f"histories/{dataset}/")]
            except (RecsysError, OSError) as error:
                faults.append(error)
        mapped = {dataset: found for dataset, found in self._mapped.items() if dataset in datasets}
        for dataset, names in listed.items():
            if dataset in mapped and mapped[dataset].name not in names:
                del mapped[dataset]  # it may have a user who was removed, so not even until the new one arrives
        self._serve_from(mapped)
        for dataset, names in listed.items():
            try:
                found = self._newest(dataset, names, mapped.get(dataset), fetching=fetching)
            except VersionCorruptError as error:
                mapped.pop(dataset, None)
                faults.append(error)
            except (RecsysError, OSError) as error:
                faults.append(error)
            else:
                mapped |= {} if found is None else {dataset: found}
        self._serve_from(mapped)
        if fetching and datasets:
            used = {
                dataset: {*names[-1:], mapped[dataset].name if dataset in mapped else ""} for dataset, names in listed.items()
            }
            self._forget_copies(datasets, used)
        if faults:
            raise faults[0]

    def _serve_from(self, mapped: dict[str, Histories]) -> None:
        self._mapped = dict(mapped)
        self._on_change(sum(len(found) for found in mapped.values()))

    def _newest(self, dataset: str, names: list[str], mapped: Histories | None, *, fetching: bool) -> Histories | None:
        if not names:
            return None
        name = names[-1]
        if mapped is not None and mapped.name == name:
            return mapped
        key = f"histories/{dataset}/{name}"
        path = self._store.local_file(key)
        if path is None:
            path = self._folder / dataset / name
            if not path.exists():
                if not fetching:
                    return mapped
                self._fetch(key, path)
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

    def _forget_copies(self, datasets: frozenset[str], used: dict[str, set[str]]) -> None:
        """Delete the copies of former files and of other datasets. A worker that still maps one keeps it until it looks.

        Args:
            datasets: What is served.
            used: The names that stay, for each dataset of which the store could list the files.
        """
        for path in self._folder.glob("*/*"):
            dataset = path.parent.name
            if dataset in datasets and dataset not in used:
                continue
            with suppress(FileNotFoundError):  # another worker was faster
                arriving = path.name.startswith(".") and wall_clock() - path.stat().st_ctime < LEFT_S
                if path.name not in used.get(dataset, ()) and not arriving:
                    path.unlink()
