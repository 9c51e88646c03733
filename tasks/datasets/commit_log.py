"""The log of a landing zone: what each run added, and with it the ledger of files.

Entries are numbered and create-only. Writing entry n + 1 adds a run's files to the dataset, all of them or none. If two runs
race for an entry, one wins. The other starts again from the winner's dataset, which contains the files that both had read. So
no file is ever added twice. The other objects of an entry (the version's manifest, an account for each file) are written after
it. If a run is killed in between, the next run writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import AlreadyExistsError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from models.columns import Columns

__all__ = ["FileAccount", "LandingLog", "LogEntry", "Removal", "file_id", "origin_of"]

ENTRY_FORMAT = 1
MOST_FILES = 1 << 20  # in one run
NO_DELIVERY = -1  # UTC seconds; earlier than any delivery
FileKind = Literal["events", "items", "users", "unreadable"]


@dataclass(frozen=True)
class FileAccount:
    """The row counts of one file: rows = accepted + duplicates + quarantined + removed + left_out.

    The account of a copy, a file whose content was added under another name or time, has no rows.

    Attributes:
        accepted: Rows that this file added to the dataset (or that describe an item or a user).
        duplicates: Good rows, but the dataset or another file of the run has the same or a newer event (description).
        quarantined: Bad rows, or all rows of a file that was quarantined as a whole.
    """

    file: str
    sha256: str
    kind: FileKind
    modified_ns: int
    size: int
    status: Literal["accepted", "quarantined", "copy"]
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    corrections: int = 0  # accepted events that replaced an older one
    late: int = 0  # accepted events from before the watermark
    new_users: int = 0  # users without an event before this run
    new_items: int = 0
    extra_columns: tuple[str, ...] = ()
    why: str = ""  # why the file was quarantined as a whole or not read; empty if it was read
    removed: int = 0  # good rows that a removal keeps out
    written: int = -1  # UTC seconds as which its rows count as delivered; -1 in logs of earlier versions: by modified_ns
    left_out: int = 0  # good events whose weight is 0
    ordinal: int = -1  # its place in the run, which the origin of its events contains; -1 in logs of earlier versions

    def __post_init__(self) -> None:
        if self.rows != self.accepted + self.duplicates + self.quarantined + self.removed + self.left_out:
            raise ValueError(f"the account of {self.file} does not close: {self}")

    @property
    def remarks(self) -> str:
        """Further remarks on the file, as one line of text."""
        if self.status == "copy":
            return self.why
        if self.why:  # it names the reasons
            return f"quarantined as a whole: {self.why}"
        extra = [f"not read: {', '.join(self.extra_columns)}"] if self.extra_columns else []
        return "; ".join([*(f"{reason}: {count}" for reason, count in self.reasons.items()), *extra])

    def delivered(self, read_at: int) -> int:
        """Return UTC seconds as which its rows count as delivered, if it was read at `read_at`."""
        return self.written if self.written >= 0 else min(self.modified_ns // 10**9, read_at)

    @property
    def id(self) -> str:
        return file_id("items" if self.status == "copy" else self.kind, self.sha256, self.modified_ns)


@dataclass(frozen=True)
class Removal:
    """What a command took out of the dataset and keeps out of it, until another entry undoes it.

    An event is removed if it has the given user, item and time, or if it comes from the given file.
    """

    reason: str
    by: str  # who ran the command
    user: int | None = None
    item: int | None = None
    time: int | None = None  # UTC seconds
    file: str = ""  # the name of a landed file
    sha256: str = ""  # of the file
    events: int = 0  # that were removed
    undoes: int = 0  # the number of the entry whose removal this one lifts

    @property
    def what(self) -> str:
        """What is removed, as text."""
        if self.undoes:
            return f"undoes the removal of run {self.undoes}"
        parts = (("user", self.user), ("item", self.item), ("time", self.time), ("file", self.file or None))
        return " ".join(f"{name} {value}" for name, value in parts if value is not None)

    @property
    def brings_back(self) -> bool:
        """Whether files may hold events that count now: the removed ones had superseded them, or they are removed no longer."""
        return bool(self.undoes or self.file) or self.time is not None

    def holds(self, events: Mapping[str, Any] | pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return a mask of the events that have the given user, item and time. It is empty for the removal of a file."""
        given = ((Columns.USER, self.user), (Columns.ITEM, self.item), (Columns.TIME, self.time))
        masks = [np.asarray(events[name]) == value for name, value in given if value is not None]
        return np.logical_and.reduce(masks) if masks else np.zeros(len(events[Columns.USER]), dtype=bool)

    def describes(self, kind: FileKind) -> int | None:
        """Return the id whose description is removed with all events of the user or item, or None if none is."""
        if (self.user is None) == (self.item is None):
            return None
        return (self.user if kind == "users" else self.item if kind == "items" else None) if self.time is None else None


@dataclass(frozen=True)
class LogEntry:
    """One step of the dataset. `manifest` belongs to the step's new version, or is None if the version did not change."""

    number: int  # from 1
    kind: Literal["ingest", "compact", "remove"]
    dataset: str
    version: str
    watermark: int  # UTC seconds; all earlier events are assumed to have arrived
    when: str  # UTC, ISO 8601
    manifest: dict[str, Any] | None
    accounts: tuple[FileAccount, ...] = ()
    removal: Removal | None = None

    def to_json(self) -> bytes:
        return json.dumps({"format": ENTRY_FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, uri: str) -> LogEntry:
        """Parse an entry. Raises VersionCorruptError if `content` is not one."""
        try:
            found = json.loads(content)
            if found.pop("format") != ENTRY_FORMAT:
                raise ValueError("unknown format")
            accounts = [FileAccount(**{**each, "extra_columns": tuple(each["extra_columns"])}) for each in found["accounts"]]
            removal = Removal(**found["removal"]) if found.get("removal") else None
            return cls(**{**found, "accounts": tuple(accounts), "removal": removal})
        except (ValueError, TypeError, KeyError) as error:
            raise VersionCorruptError(
                f"{uri} is not a landing log entry ({error}): it was changed after it was stored. Restore it from a backup."
            ) from error


def origin_of(number: int, ordinal: int) -> int:
    """Return the origin of the events of a file: the `ordinal`-th one of the log entry `number`."""
    return number * MOST_FILES + ordinal


def file_id(kind: FileKind, sha256: str, modified_ns: int) -> str:
    """Return the id of a file in the ledger, which is its sha256.

    For a description, the id includes the time of the file, because a description that comes back later counts again.
    """
    return f"{sha256}-{modified_ns}" if kind in ("items", "users") else sha256


class LandingLog:
    """The log and the ledger of one dataset's landing zone, under `landing/<dataset>/`."""

    def __init__(self, store: Store, dataset: str) -> None:
        self.store, self.dataset = store, dataset
        self.prefix = f"landing/{dataset}"

    def head(self) -> LogEntry | None:
        """Return the last entry, or None if there is none. If a killed run left the entry incomplete, it is completed first."""
        keys = self._keys()
        if not keys:
            return None
        entry = LogEntry.from_json(self.store.get(keys[-1]), self.store.uri(keys[-1]))
        self._complete(entry)
        return entry

    def append(self, entry: LogEntry) -> None:
        """Commit a step. Raises AlreadyExistsError if another run has taken its number."""
        self.store.claim(f"{self.prefix}/log/{entry.number:08d}.json", entry.to_json())
        self._complete(entry)

    def entries(self, after: int = 0) -> list[LogEntry]:
        """Return the entries with a number above `after`, ascending."""
        keys = [key for key in self._keys() if int(key.rpartition("/")[2].removesuffix(".json")) > after]
        return [LogEntry.from_json(self.store.get(key), self.store.uri(key)) for key in keys]

    def accounted(self) -> dict[str, bool]:
        """Return the ids of all files, and whether a file need not be read.

        After a removal that brings events back, each file is read once more.
        """
        changed = max((number for number, each in self._removals().items() if each.brings_back), default=0)
        return {id_: int(name.removesuffix(".json")) > changed for id_, name in self._latest().items()}

    def removals(self) -> dict[int, Removal]:
        """Return the removals that were not undone, by the number of their entry."""
        found = self._removals()
        undone = {each.undoes for each in found.values()}
        return {number: each for number, each in found.items() if number not in undone and not each.undoes}

    def with_bad_rows(self) -> dict[str, FileAccount]:
        """Return the last account of each file that was quarantined as a whole or that has quarantined rows, by its id."""
        accounts = {id_: self._account(id_, name) for id_, name in self._latest().items()}
        return {id_: each for id_, each in accounts.items() if each.status == "quarantined" or each.quarantined}

    def names_of(self, sha256: str) -> list[str]:
        """Return the names under which this content has been accounted for, the first one first."""
        keys = [key.removeprefix(f"{self.prefix}/files/").split("/") for key in self.store.list(f"{self.prefix}/files/{sha256}")]
        return [self._account(id_, name).file for id_, name in sorted(keys, key=lambda key: key[1])]

    def written(self, origins: npt.NDArray[np.int64], current: Mapping[int, int]) -> npt.NDArray[np.int64]:
        """Return UTC seconds at which the files of these origins were written, but at most the time of the run that read them.

        Args:
            origins: Origins of events. 0 is that of an event from a release.
            current: The times of the files of a run that is not in the log yet, by origin.
        """
        distinct, places = np.unique(origins, return_inverse=True)
        found = dict(current)
        for number in {int(origin) // MOST_FILES for origin in distinct if int(origin) not in found} - {0}:
            key = f"{self.prefix}/log/{number:08d}.json"
            entry = LogEntry.from_json(self.store.get(key), self.store.uri(key))
            read_at = int(datetime.fromisoformat(entry.when).timestamp())
            found |= {origin_of(number, each.ordinal): each.delivered(read_at) for each in entry.accounts}
        return np.array([found.get(int(origin), NO_DELIVERY) for origin in distinct], dtype=np.int64)[places]

    def quarantine_key(self, sha256: str) -> str:
        return f"{self.prefix}/quarantine/{sha256}.parquet"

    def listing_key(self, zone: str) -> str:
        """Return the key of the listing for the zone at the address `zone`."""
        return f"{self.prefix}/listings/{sha256_of(zone.encode())[:16]}.json"

    def _keys(self) -> list[str]:
        return [key for key in self.store.list(f"{self.prefix}/log/") if key.endswith(".json")]

    def _removals(self) -> dict[int, Removal]:
        keys = sorted(self.store.list(f"{self.prefix}/removals/"))
        return {int(key.rpartition("/")[2].removesuffix(".json")): Removal(**json.loads(self.store.get(key))) for key in keys}

    def _latest(self) -> dict[str, str]:
        """Return the name of the last account of each file, by its id."""
        keys = [key.removeprefix(f"{self.prefix}/files/") for key in self.store.list(f"{self.prefix}/files/")]
        return dict(key.split("/") for key in keys)  # keys ascend

    def _account(self, id_: str, name: str) -> FileAccount:
        found = json.loads(self.store.get(f"{self.prefix}/files/{id_}/{name}"))
        return FileAccount(**{**found, "extra_columns": tuple(found["extra_columns"])})

    def _complete(self, entry: LogEntry) -> None:
        if entry.manifest is not None:
            self._once(f"datasets/{self.dataset}/{entry.version}/manifest.json", entry.manifest)
        if entry.removal is not None:
            self._once(f"{self.prefix}/removals/{entry.number:08d}.json", asdict(entry.removal))
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
