"""The log of a landing zone: what each run added, and with it the ledger of files.

An entry is create-only and numbered; writing number n + 1 is what makes a run's files part of the dataset, all of them or none. Of
two runs that race for it one wins, and the other begins anew from the winner's dataset, which holds the files that both had read:
no file is ever added twice. What else an entry entails (the version's manifest, an account for each file) is written after it
and, where a run was killed in between, by the next one.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from configs.errors import AlreadyExistsError, VersionCorruptError
from infra.stores import Store

__all__ = ["FileAccount", "LandingLog", "LogEntry", "file_id"]

FORMAT = 1
FileKind = Literal["events", "items", "users", "unreadable"]


@dataclass(frozen=True)
class FileAccount:
    """What became of a file's rows: rows = accepted + duplicates + quarantined.

    accepted: are in the dataset (or describe an item or a user) since this file. duplicates: good, but the dataset or another file
    of the run has the same or a newer event (description). quarantined: bad, or of a file that was quarantined as a whole.
    """

    file: str
    sha256: str
    kind: FileKind
    modified_ns: int
    size: int
    status: Literal["accepted", "quarantined"]
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    corrections: int = 0  # accepted events that took the place of an older one
    late: int = 0  # accepted events from before the watermark
    new_users: int = 0  # that had no event before this run
    new_items: int = 0
    extra_columns: tuple[str, ...] = ()
    why: str = ""  # it was quarantined as a whole

    def __post_init__(self) -> None:
        if self.rows != self.accepted + self.duplicates + self.quarantined:
            raise ValueError(f"the account of {self.file} does not close: {self}")

    @property
    def remarks(self) -> str:
        """What else is to be said of it."""
        whole = [f"quarantined as a whole: {self.why}"] if self.why else []
        extra = [f"not read: {', '.join(self.extra_columns)}"] if self.extra_columns else []
        return "; ".join([*whole, *(f"{reason}: {count}" for reason, count in self.reasons.items()), *extra])

    @property
    def id(self) -> str:
        return file_id(self.kind, self.sha256, self.modified_ns)


@dataclass(frozen=True)
class LogEntry:
    """One step of the dataset. `manifest` is that of the version which the step made; None where it is the one before."""

    number: int  # from 1
    kind: Literal["ingest", "compact"]
    dataset: str
    version: str
    watermark: int  # UTC seconds before which all events are taken to have arrived
    when: str  # UTC, ISO 8601
    manifest: dict[str, Any] | None
    accounts: tuple[FileAccount, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, uri: str) -> LogEntry:
        """Raises VersionCorruptError where it is none."""
        try:
            found = json.loads(content)
            if found.pop("format") != FORMAT:
                raise ValueError("of another format")
            accounts = [FileAccount(**{**each, "extra_columns": tuple(each["extra_columns"])}) for each in found["accounts"]]
            return cls(**{**found, "accounts": tuple(accounts)})
        except (ValueError, TypeError, KeyError) as error:
            raise VersionCorruptError(
                f"{uri} is no entry of a landing log ({error}): it was changed after it was stored. Restore it from a backup."
            ) from error


def file_id(kind: FileKind, sha256: str, modified_ns: int) -> str:
    """What the ledger knows a file by: its content; a description that comes back later counts anew, so its time belongs to it."""
    return f"{sha256}-{modified_ns}" if kind in ("items", "users") else sha256


class LandingLog:
    """The log and the ledger of one dataset's landing zone, under `landing/<dataset>/`."""

    def __init__(self, store: Store, dataset: str) -> None:
        self.store, self.dataset = store, dataset
        self.prefix = f"landing/{dataset}"

    def head(self) -> LogEntry | None:
        """The last entry, after whatever a killed run has left undone of it is done; None before the first."""
        keys = self._keys()
        if not keys:
            return None
        entry = LogEntry.from_json(self.store.get(keys[-1]), self.store.uri(keys[-1]))
        self._complete(entry)
        return entry

    def append(self, entry: LogEntry) -> None:
        """Commit a step. Raises AlreadyExistsError where another run has taken its number."""
        self.store.put_new(f"{self.prefix}/log/{entry.number:08d}.json", entry.to_json())
        self._complete(entry)

    def entries(self, after: int = 0) -> list[LogEntry]:
        """Those with a higher number than `after`, ascending."""
        keys = [key for key in self._keys() if int(key.rpartition("/")[2].removesuffix(".json")) > after]
        return [LogEntry.from_json(self.store.get(key), self.store.uri(key)) for key in keys]

    def known(self, *, retry_quarantined: bool = False) -> set[str]:
        """Ids of the files that need no reading; with `retry_quarantined`, without those that were quarantined as a whole."""
        keys = [key.removeprefix(f"{self.prefix}/files/") for key in self.store.list(f"{self.prefix}/files/")]
        latest = dict(key.split("/") for key in keys)  # ascending, so the last account of each
        if retry_quarantined:
            return {id_ for id_, name in latest.items() if self._account(id_, name)["status"] == "accepted"}
        return set(latest)

    def quarantine_key(self, sha256: str) -> str:
        return f"{self.prefix}/quarantine/{sha256}.parquet"

    def listing_key(self, zone: str) -> str:
        """Of what is remembered of the files at the address `zone`."""
        return f"{self.prefix}/listings/{hashlib.sha256(zone.encode()).hexdigest()[:16]}.json"

    def _keys(self) -> list[str]:
        return [key for key in self.store.list(f"{self.prefix}/log/") if key.endswith(".json")]

    def _account(self, id_: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.get(f"{self.prefix}/files/{id_}/{name}"))
        return found

    def _complete(self, entry: LogEntry) -> None:
        if entry.manifest is not None:
            self._once(f"datasets/{self.dataset}/{entry.version}/manifest.json", entry.manifest)
        if not entry.accounts:
            return
        written = set(self.store.list(f"{self.prefix}/files/"))
        for account in entry.accounts:
            key = f"{self.prefix}/files/{account.id}/{entry.number:08d}.json"
            if key not in written:
                self._once(key, asdict(account))

    def _once(self, key: str, content: dict[str, Any]) -> None:
        if not self.store.exists(key):
            with suppress(AlreadyExistsError):
                self.store.put_new(key, json.dumps(content, indent=2).encode())
