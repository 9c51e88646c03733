"""kill -9 before and after every write that a publication and a promotion make to S3."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from configs.settings import StoreSettings
from infra.s3 import S3Store
from infra.stores import LocalStore
from tasks.promotions import champion, promote
from tasks.registry import list_versions, read_manifest, verify_files
from tests.tasks.stored import NAME, NOW, check_whole, publish_and_promote, sealed, stage_popularity


class Dying(S3Store):
    """Is killed at its n-th write: before the request, or after the answer."""

    def __init__(self, prefix: str, settings: StoreSettings, number: int, *, after: bool) -> None:
        super().__init__("crash", prefix, settings)
        self.left, self.after = number, after

    def put_new(self, key: str, data: bytes | Path) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        super().put_new(key, data)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreSettings]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = StoreSettings(url="s3://crash/x", endpoint_url=f"http://{host}:{port}", timeout_s=30)
    boto3.client("s3", endpoint_url=found.endpoint_url, region_name="us-east-1").create_bucket(Bucket="crash")
    yield found
    server.stop()


@pytest.mark.full
def test_a_run_killed_at_any_write_to_s3_leaves_a_whole_champion(settings: StoreSettings, tmp_path: Path) -> None:
    made = LocalStore(tmp_path / "store")
    first = sealed(made, tmp_path / "m")
    promote(made, NAME, first.version, expected=0, reason="the first", now=NOW)
    stage_popularity(LocalStore(tmp_path / "elsewhere"), tmp_path / "trained", hour=1)
    context = multiprocessing.get_context("fork")
    writes = len(read_manifest(made, NAME, first.version)["files"]) + 2  # the manifest and the entry
    seen = []
    for number in range(1, writes + 2):
        for after in (False, True):
            prefix = f"n{number}{after}"
            store = S3Store("crash", prefix, settings)
            for key in made.list():
                store.put(key, made.get(key))
            dying = Dying(prefix, settings, number, after=after)
            process = context.Process(target=publish_and_promote, args=(dying, tmp_path / "trained"))
            process.start()
            process.join()
            assert process.exitcode == (-signal.SIGKILL if number <= writes else 0)
            current, versions = champion(store, NAME), list_versions(store, NAME)
            assert current is not None
            seen.append((current.number, len(versions)))
            for ref in versions:
                verify_files(store, ref.prefix, read_manifest(store, NAME, ref.version)["files"])
            check_whole(store, next(ref for ref in versions if ref.version == current.version))
            again = publish_and_promote(store, tmp_path / "trained", hours=1)
            now = champion(store, NAME)
            assert now is not None and now.version == again.version and now.number == current.number + 1
    assert set(seen) == {(1, 1), (1, 2), (2, 2)} and seen == sorted(seen)
