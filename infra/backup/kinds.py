"""What is backed up, and how: the objects of the store, the Prefect server's database, and Redis."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from configs.child_processes import child_environment
from configs.errors import SettingsError
from infra.backup.sealed import Seal
from infra.storage import Store

__all__ = ["Backup", "back_up_database", "back_up_redis", "back_up_store", "restore_database", "restore_redis", "restore_store"]

STAMP = "%Y%m%dT%H%M%S%fZ"
PASSING = (".tmp/", "leases/")  # of a store: what ends with the run that wrote it
REPLACED = ("histories/",)  # of a store: the only objects that change
FIRST = "promotions/"
APPENDED = "appendonly.aof.1.base.rdb"  # Redis's name for the base of the file that it appends to
POSTGRES = ("postgresql", "postgres")
NEEDS = {"pg_dump": ("PG*",), "pg_restore": ("PG*",), "redis-cli": ("REDISCLI_AUTH",)}  # of the environment, with their passwords


@dataclass(frozen=True)
class Backup:
    """Where backups are kept, and how."""

    place: Store
    seal: Seal

    def keep(self, key: str, path: Path, *, replace: bool = False) -> None:
        """Keep a file. A file that is there already stays, unless it may have changed."""
        name = self.seal.name(key)
        if not replace and self.place.exists(name):
            return
        with self.seal.closed(path) as made:
            self.place.put(name, made)

    def fetch(self, key: str, path: Path) -> None:
        """Write a kept file to `path`."""
        with TemporaryDirectory() as folder:
            kept = Path(folder) / "kept"
            self.place.fetch(self.seal.name(key), kept)
            with self.seal.opened(kept) as opened:
                shutil.copyfile(opened, path)

    def done(self, kind: str, stamp: str, record: str) -> None:
        """Record that a backup is complete."""
        self.place.put_new(f"{kind}/done/{stamp}.json", record.encode())

    def newest(self, kind: str) -> str:
        """Return the stamp of the newest complete backup. Raises SettingsError if there is none."""
        names = [key.rpartition("/")[2].removesuffix(".json") for key in self.place.list(f"{kind}/done/")]
        if not names:
            raise SettingsError(f"{self.place.uri(kind)} has no complete backup of the {kind}.")
        return max(names)


def back_up_store(store: Store, backup: Backup, now: datetime | None = None) -> int:
    """Copy every object that the backup lacks, and return their number.

    The promotion log is read first: a version is stored before it is promoted, so every entry that was read has its version in the
    copy, whatever is promoted meanwhile.
    """
    log = list(store.list(FIRST))
    others = [key for key in store.list("") if not key.startswith((*PASSING, FIRST))]
    kept = {key.removeprefix("store/objects/") for key in backup.place.list("store/objects/")}
    copied = 0
    for key in [*log, *others]:
        changes = key.startswith(REPLACED)
        if backup.seal.name(key) not in kept or changes:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "object"
                store.fetch(key, path)
                backup.keep(f"store/objects/{key}", path, replace=changes)
            copied += 1
    backup.done("store", _stamp(now), f'{{"objects": {len(log) + len(others)}, "copied": {copied}}}')
    return copied


def restore_store(backup: Backup, store: Store) -> int:
    """Write every kept object that the store lacks, the promotion log last, and return their number.

    A server that follows the log meanwhile finds each version that an entry names.
    """
    backup.newest("store")
    ending = backup.seal.name("")
    keys = [key.removeprefix("store/objects/") for key in backup.place.list("store/objects/")]
    keys = [key.removesuffix(ending) if ending else key for key in keys if key.endswith(ending)]
    restored = 0
    for key in sorted(keys, key=lambda key: (key.startswith(FIRST), key)):
        if not store.exists(key):
            with TemporaryDirectory() as folder:
                path = Path(folder) / "object"
                backup.fetch(f"store/objects/{key}", path)
                store.put_new(key, path)
            restored += 1
    return restored


def back_up_database(address: str, backup: Backup, now: datetime | None = None) -> int:
    """Dump the Prefect server's database, and return the size of the dump in bytes.

    Args:
        address: `postgresql://user@host:port/name`, with the password in PGPASSWORD or a file that PGPASSFILE names, or the path of an
            SQLite file.
        backup: Where the dump is kept.
        now: Time of the backup.
    """

    def dump(path: Path) -> None:
        if urlsplit(address).scheme in POSTGRES:
            _run("pg_dump", "--format=custom", f"--file={path}", address)
            return
        with (
            closing(sqlite3.connect(f"file:{_existing(address)}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(path)) as copy,
        ):
            source.backup(copy)

    return _dumped("database", dump, backup, now)


def restore_database(backup: Backup, address: str) -> None:
    """Restore the newest dump into an empty database. Stop the Prefect server before. Raises SettingsError if it is not empty."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        backup.fetch(f"database/{backup.newest('database')}", path)
        if urlsplit(address).scheme in POSTGRES:
            _run("pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", f"--dbname={address}", str(path))
        elif Path(address).exists():
            raise SettingsError(f"{address} exists. Move it away first: restoring never overwrites a database.")
        else:
            shutil.copyfile(path, address)


def back_up_redis(address: str, backup: Backup, now: datetime | None = None) -> int:
    """Take a snapshot of Redis, and return its size in bytes. The password, if there is one, is in REDISCLI_AUTH."""
    return _dumped("redis", lambda path: _run("redis-cli", "-u", address, "--rdb", str(path)), backup, now)


def restore_redis(backup: Backup, folder: Path) -> Path:
    """Write the newest snapshot into Redis's folder of data, and return its path.

    Redis must be stopped. Redis that appends to a file (`--appendonly yes`, since version 7) reads only that file, so the snapshot also
    becomes the base of one. Raises SettingsError if the folder has data.
    """
    path, appended = folder / "dump.rdb", folder / "appendonlydir"
    if path.exists() or appended.exists():
        raise SettingsError(f"{folder} has data of Redis. Move them away first: restoring never overwrites them.")
    with TemporaryDirectory() as work:
        fetched = Path(work) / "dump"
        backup.fetch(f"redis/{backup.newest('redis')}", fetched)
        appended.mkdir(parents=True)
        for made in (path, appended / APPENDED):
            shutil.copyfile(fetched, made)
    (appended / "appendonly.aof.manifest").write_text(f"file {APPENDED} seq 1 type b\n", encoding="utf-8")
    return path


def _dumped(kind: str, dump: Callable[[Path], None], backup: Backup, now: datetime | None) -> int:
    stamp = _stamp(now)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        dump(path)
        size = path.stat().st_size
        backup.keep(f"{kind}/{stamp}", path)
    backup.done(kind, stamp, f'{{"bytes": {size}}}')
    return size


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise SettingsError(f"There is no database {path}.")
    return Path(path)


def _run(program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise SettingsError(f"{program} is not installed. Debian has it in postgresql-client or redis-tools.")
    environment = child_environment(NEEDS[program])
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SettingsError(f"{program} failed: {done.stderr.strip()[-600:]}")


def _stamp(now: datetime | None) -> str:
    return f"{now or datetime.now(UTC):{STAMP}}"
