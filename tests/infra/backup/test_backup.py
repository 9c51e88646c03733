"""A backup holds everything that a restore needs, and is encrypted when that is asked for."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from configs.errors import SettingsError
from infra.backup.kinds import (
    Backup,
    back_up_database,
    back_up_redis,
    back_up_store,
    restore_database,
    restore_redis,
    restore_store,
)
from infra.backup.sealed import Seal
from infra.storage.local import LocalStore
from tests.doubles.redis_server import RedisServer

OBJECTS = {
    "models/m/v1/manifest.json": b"a version",
    "promotions/m/00000001.json": b"an entry",
    "histories/d/1": b"histories",
    "datasets/d/1/events": b"\0" * 5000,
}


@pytest.fixture(params=["plain", "encrypted"])
def backup(request: pytest.FixtureRequest, tmp_path: Path) -> Backup:
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    return Backup(LocalStore(tmp_path / "backups"), Seal(tmp_path / "passphrase" if request.param == "encrypted" else None))


def filled(folder: Path) -> LocalStore:
    store = LocalStore(folder)
    for key, content in OBJECTS.items():
        store.put_new(key, content)
    return store


def test_a_lost_store_comes_back_whole_and_a_second_backup_copies_only_what_may_be_new(backup: Backup, tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    assert back_up_store(store, backup) == len(OBJECTS)
    store.put_new("models/m/v2/manifest.json", b"another version")
    store.put("histories/d/1", b"other histories")
    assert back_up_store(store, backup) == 2
    shutil.rmtree(tmp_path / "store")
    lost = LocalStore(tmp_path / "store")
    assert restore_store(backup, lost) == len(OBJECTS) + 1
    expected = OBJECTS | {"models/m/v2/manifest.json": b"another version", "histories/d/1": b"other histories"}
    assert {key: lost.get(key) for key in lost.list("")} == expected
    assert restore_store(backup, lost) == 0, "restoring again must not write over what is there"


def test_an_encrypted_backup_shows_nothing_and_opens_only_with_its_passphrase(tmp_path: Path) -> None:
    (tmp_path / "right").write_text("correct horse battery staple")
    (tmp_path / "wrong").write_text("guess")
    place = LocalStore(tmp_path / "backups")
    back_up_store(filled(tmp_path / "store"), Backup(place, Seal(tmp_path / "right")))
    kept = b"".join(path.read_bytes() for path in (tmp_path / "backups").rglob("*") if path.is_file())
    assert not [content for content in OBJECTS.values() if content in kept]
    with pytest.raises(SettingsError, match="GnuPG"):
        restore_store(Backup(place, Seal(tmp_path / "wrong")), LocalStore(tmp_path / "other"))
    with pytest.raises(SettingsError, match="no passphrase"):
        Seal(tmp_path / "missing")


def test_a_version_that_is_promoted_during_a_backup_is_in_it_or_its_promotion_is_not(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")

    class Promoting(LocalStore):
        def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
            yield from super().list(prefix)
            store.put_new(f"models/m/during-{len(prefix)}/manifest.json", b"")
            store.put_new(f"promotions/m/during-{len(prefix)}.json", b"")

    backup = Backup(LocalStore(tmp_path / "backups"), Seal())
    back_up_store(Promoting(tmp_path / "store"), backup)
    kept = {key.removeprefix("store/objects/") for key in backup.place.list("store/objects/")}
    for entry in (key for key in kept if key.startswith("promotions/m/during")):
        assert f"models/m/{Path(entry).stem}/manifest.json" in kept


def test_a_backup_that_broke_off_does_not_count(tmp_path: Path) -> None:
    backup = Backup(LocalStore(tmp_path / "backups"), Seal())
    backup.place.put_new("store/objects/models/m/v1/manifest.json", b"")
    with pytest.raises(SettingsError, match="no complete backup"):
        restore_store(backup, LocalStore(tmp_path / "store"))


def test_a_lost_database_comes_back_and_a_present_one_is_not_overwritten(backup: Backup, tmp_path: Path) -> None:
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table run (name text)")
        database.execute("insert into run values ('nightly')")
    back_up_database(str(path), backup)
    with pytest.raises(SettingsError, match="never overwrites"):
        restore_database(backup, str(path))
    path.unlink()
    restore_database(backup, str(path))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select name from run").fetchall() == [("nightly",)]


@pytest.mark.parametrize("appends", ["no", "yes"])
def test_a_lost_redis_comes_back_whether_it_appends_to_a_file_or_not(appends: str, backup: Backup, tmp_path: Path) -> None:
    assert shutil.which("redis-cli"), "apt-get install -y --no-install-recommends redis-tools"
    server = RedisServer()
    server.start()
    try:
        subprocess.run(["redis-cli", "-u", server.url, "set", "user:1", "seen"], check=True, capture_output=True)
        back_up_redis(server.url, backup)
    finally:
        server.kill()
    folder = tmp_path / "redis"
    restore_redis(backup, folder)
    with pytest.raises(SettingsError, match="never overwrites"):
        restore_redis(backup, folder)
    command = ["redis-server", "--port", str(server.port), "--dir", str(folder), "--bind", "127.0.0.1", "--appendonly", appends]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        asked = ["redis-cli", "-u", server.url, "get", "user:1"]
        for _ in range(200):
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.stdout.strip() == "seen":
                break
        assert done.stdout.strip() == "seen", done.stdout + done.stderr
        subprocess.run(["redis-cli", "-u", server.url, "set", "user:2", "seen"], check=True, capture_output=True)
    finally:
        process.terminate()
        process.wait()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        asked = ["redis-cli", "-u", server.url, "mget", "user:1", "user:2"]
        for _ in range(200):
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.stdout.split() == ["seen", "seen"]:
                break
        assert done.stdout.split() == ["seen", "seen"], "Redis forgot what it was told after the restore"
    finally:
        process.terminate()
        process.wait()
