"""Everything is lost and restored: the same champion gives the same answers to users that only Redis knew."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

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
from serving.api.app import create_app
from tests.doubles.live_prefect import wait_until
from tests.doubles.redis_server import RedisServer
from tests.ports import reserved_port
from tests.serving.versions import draw, promote_version, publish, settings_of

pytestmark = pytest.mark.nightly
USERS = range(9000, 9020)
NOW = int(time.time()) + 3600  # after every event


def ready(client: TestClient) -> None:
    """Wait until a server has loaded the champion."""
    wait_until(lambda: client.get("/readyz").status_code == 200, 300, "the champion")


def answers(root: Path, redis: str) -> list[Any]:
    """Return what a server in a folder of its own answers to each user, for one time: scores change as time passes."""
    settings = settings_of(root, redis={"url": redis}, work_dir=str(root / f"served-{time.monotonic_ns()}"))
    with TestClient(create_app(settings)) as client:
        ready(client)
        return [client.post("/v1/recommendations", json={"user_id": user, "time": NOW}).json()["items"] for user in USERS]


def test_everything_is_lost_and_restored_and_the_same_champion_answers_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "v1", 1)
    store, redis, database = LocalStore(tmp_path / "store"), RedisServer(), tmp_path / "prefect.db"
    promote_version(store, publish(store, tmp_path / "v1").version)
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("create table flow_run (name text)")
        opened.execute("insert into flow_run values ('nightly')")
    redis.start()
    settings = settings_of(tmp_path, redis={"url": redis.url})
    with TestClient(create_app(settings)) as client:
        ready(client)
        for user in USERS:
            events = [{"user_id": user, "item_id": 100 + (user + step) % 20} for step in range(3)]
            client.post("/v1/events", json={"events": events}).raise_for_status()
        time.sleep(1)  # Redis hears of the events after the answer
    before = answers(tmp_path, redis.url)
    assert len({str(items) for items in before}) > 5, "the users are not told apart, so the drill would show nothing"

    (tmp_path / "passphrase").write_text("correct horse battery staple")
    backup = Backup(LocalStore(tmp_path / "backups"), Seal(tmp_path / "passphrase"))
    back_up_store(store, backup)
    back_up_database(str(database), backup)
    back_up_redis(redis.url, backup)

    redis.kill()
    shutil.rmtree(tmp_path / "store")
    database.unlink()

    started = time.monotonic()
    restore_store(backup, LocalStore(tmp_path / "store"))
    restore_database(backup, str(database))
    (tmp_path / "redis").mkdir()
    restore_redis(backup, tmp_path / "redis")
    port = reserved_port()
    command = ["redis-server", "--port", str(port), "--dir", str(tmp_path / "redis"), "--bind", "127.0.0.1", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"redis://127.0.0.1:{port}"
        while subprocess.run(["redis-cli", "-u", address, "ping"], capture_output=True, check=False).returncode:
            assert process.poll() is None, "Redis does not start with the snapshot"
            time.sleep(0.1)
        restored = time.monotonic() - started
        assert answers(tmp_path, f"{address}/0") == before
    finally:
        process.terminate()
        process.wait()
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("select name from flow_run").fetchall() == [("nightly",)]
    with capsys.disabled():
        print(f"\nrestored in {restored:.1f} s on {datetime.now(UTC):%Y-%m-%d}")
