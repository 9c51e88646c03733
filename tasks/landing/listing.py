"""What runs have seen of a landing zone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, replace

from configs.errors import NotFoundError
from infra.landing_zone import SourceFile
from infra.storage import Store

__all__ = ["Listing"]


class Listing:
    """What runs have seen of a zone, kept in the store.

    It holds the sha256 of files by name, size, time and tag, so that no run has to read old files again to recognise them. For each
    waiting file, it also holds the time since which the file has been unchanged, whatever the file's own clock shows.

    The listing is only a cache. If it is lost or out of date, files are read again and their waiting time starts again.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        try:
            found = json.loads(store.get(key))
            self._known = {SourceFile(*entry[:4]): str(entry[4]) for entry in found["files"]}
            self._waiting = {SourceFile(*entry[:4]): float(entry[4]) for entry in found["waiting"]}
        except (NotFoundError, ValueError, TypeError, KeyError):
            self._known, self._waiting = {}, {}
        self._seen: dict[SourceFile, str] = {}
        self._waits: dict[SourceFile, float] = {}

    def sha256(self, file: SourceFile) -> str | None:
        """Return the sha256 of a file that was seen before, or None if it is new."""
        untagged = replace(file, tag="")  # in listings of folders that earlier versions stored
        return self._known.get(file, self._known.get(untagged))

    def remember(self, file: SourceFile, sha256: str) -> None:
        """Keep the sha256 of a file for later runs."""
        self._seen[file] = sha256

    def unchanged_s(self, file: SourceFile, now: float) -> float:
        """Return the seconds since the file last changed, by its own time or by what runs have seen."""
        since = self._waits[file] = min(self._waiting.get(file, now), now)
        return max(now - file.modified_ns / 1e9, now - since)

    def save(self) -> None:
        """Store what this run has seen. Deleted files are forgotten."""
        waits = {file: since for file, since in self._waits.items() if file not in self._seen}
        if (self._seen, waits) != (self._known, self._waiting):
            kept = {"files": _entries(self._seen), "waiting": _entries(waits)}
            self._store.put(self._key, json.dumps(kept).encode())


def _entries(found: Mapping[SourceFile, str | float]) -> list[list[object]]:
    return [[*astuple(file), value] for file, value in sorted(found.items())]
