"""Which files of a landing zone were read before, by the log of the zone."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

import numpy as np

from infra.erasures import erased_users
from infra.landing_zone import SourceFile
from tasks.datasets import FileAccount, FileKind, LandingLog, file_id

__all__ = ["Ledger"]


class Ledger:
    """The files that a run need not read, because their content was added before.

    Content is recognised by its sha256, under any name. A description counts again if its content comes back later, so it is known
    at the time of its file only. If its name has had no other content since, the file was only copied or touched.

    Attributes:
        retried: The last account of each file that the run reads again, by its id.
        removals: What is kept out of the dataset, by the number of its log entry.
        erased: int64 (n), users who are kept out for good.
    """

    def __init__(self, log: LandingLog, *, retry_quarantined: bool = False) -> None:
        self._log = log
        self.retried: dict[str, FileAccount] = log.with_bad_rows() if retry_quarantined else {}
        self.removals = log.removals()
        self.erased = np.array(sorted(erased_users(log.store)), np.int64)
        accounted = log.accounted()
        self._seen = {id_.partition("-")[0] for id_ in accounted}
        self._known = {id_ for id_, is_known in accounted.items() if is_known} - self.retried.keys()
        self._removed = {removal.sha256 for removal in self.removals.values() if removal.file}
        self._names: dict[str, str] = {}  # the name of each content that this run has read

    def add(self, file: SourceFile, sha256: str, kind: FileKind) -> None:
        """Add a file that the run has read."""
        self._known.add(file_id(kind, sha256, file.modified_ns))
        self._names.setdefault(sha256, file.name)

    def has(self, file: SourceFile, sha256: str) -> bool:
        """Return whether the content was added before."""
        return sha256 in self._removed or sha256 in self._known or file_id("items", sha256, file.modified_ns) in self._known

    def has_under_name(self, file: SourceFile, sha256: str) -> bool:
        """Return whether the content is that of a known description, and the last one that was found under this name."""
        return sha256 in self._described and self._last_content.get(file.name) == sha256

    def written(self, file: SourceFile, sha256: str, now: float) -> int:
        """Return UTC seconds as which the rows of a file count as delivered.

        That is the file's own time, but at most `now`. A file that is read once more keeps its time, even if it was touched since.
        """
        own = min(file.modified_ns // 10**9, int(now))
        if sha256 not in self._seen or self._last_content.get(file.name) != sha256:
            return own
        return self._times.get((file.name, sha256), own)

    def copied(self, file: SourceFile, sha256: str) -> str:
        """Return which file this one repeats, or an empty text if its name and content were accounted for before."""
        names = self._log.names_of(sha256)
        if sha256 in self._described and file.name in names:
            return "" if self.has(file, sha256) else "has the same content as before"
        if file.name in names:
            return ""
        first = names[0] if names else self._names[sha256]
        return f"has the same content as {first}"

    @cached_property
    def _described(self) -> set[str]:
        return {id_.partition("-")[0] for id_ in self._known if "-" in id_} - self._known

    @cached_property
    def _history(self) -> list[tuple[int, FileAccount]]:
        """The UTC seconds at which each file was read, and its account, oldest first. Reads the complete log."""
        return [
            (int(datetime.fromisoformat(entry.when).timestamp()), account)
            for entry in self._log.entries()
            for account in entry.accounts
        ]

    @cached_property
    def _last_content(self) -> dict[str, str]:
        """The sha256 of the last content that was read or found under each name."""
        return {account.file: account.sha256 for _, account in self._history}

    @cached_property
    def _times(self) -> dict[tuple[str, str], int]:
        """The time of each name and content that was read."""
        read = ((read_at, account) for read_at, account in self._history if account.status != "copy")
        return {(account.file, account.sha256): account.delivered(read_at) for read_at, account in read}
