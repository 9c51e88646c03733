"""Backups are made when they are due, and one that fails keeps neither the others nor itself from being made later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from configs.errors import StoreUnavailableError
from infra.backup.kinds import Backup, back_up_store
from infra.backup.schedule import RETRY, Schedule
from infra.backup.sealed import Seal
from infra.storage.local import LocalStore
from tests.doubles.live_prefect import wait_until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_each_kind_is_made_when_its_last_backup_is_a_day_old_and_one_that_fails_is_tried_again_soon(tmp_path: Path) -> None:
    store, backup = LocalStore(tmp_path / "store"), Backup(LocalStore(tmp_path / "backups"), Seal())
    store.put_new("models/m/v1/manifest.json", b"a version")
    made, told = list[datetime](), list[str]()
    now, down = NOON, True

    def keep_store(to: Backup) -> str:
        made.append(now)
        return f"{back_up_store(store, to, now)} objects were copied"

    def keep_redis(to: Backup) -> str:
        if down:
            raise StoreUnavailableError("Redis does not answer")
        to.done("redis", f"{now:%Y%m%dT%H%M%S%fZ}", "{}")
        return "saved"

    schedule = Schedule(backup, {"redis": keep_redis, "store": keep_store}, DAY, told.append)
    assert schedule.make_due(now) == RETRY and made == [NOON]
    assert "Redis does not answer" in told[0] and told[1] == "store: 1 objects were copied"
    now, down = NOON + RETRY, False
    assert schedule.make_due(now) == DAY - RETRY, "the next one is the store's, which must not wait for that of Redis"
    now = NOON + DAY
    assert Schedule(backup, {"store": keep_store}, DAY).make_due(now - timedelta(hours=1)) == timedelta(hours=1), (
        "after a restart"
    )
    assert schedule.make_due(now) == RETRY and made == [NOON, NOON + DAY]


@pytest.mark.full
@pytest.mark.parametrize("passphrase", ["", "correct horse battery staple"])
def test_the_scheduled_process_makes_backups_says_whether_they_are_encrypted_and_stops(passphrase: str, tmp_path: Path) -> None:
    LocalStore(tmp_path / "store").put_new("models/m/v1/manifest.json", b"a version")
    (tmp_path / "passphrase").write_text(passphrase)
    command = [sys.executable, "-m", "infra.backup", "schedule", "--passphrase-file", str(tmp_path / "passphrase")]
    command += ["--store", f"file:{tmp_path}/store", "--backups", f"file:{tmp_path}/backups"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    done = tmp_path / "backups" / "store" / "done"
    try:
        wait_until(lambda: list(done.glob("*.json")), 300, "the backup")
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and ("not encrypted" in said) == (not passphrase)
    kept = [path.name for path in (tmp_path / "backups" / "store" / "objects").rglob("*") if path.is_file()]
    assert kept == ["manifest.json.gpg" if passphrase else "manifest.json"]
