"""kill -9 during and after every write that a publication and a promotion make to S3."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import StoreSettings
from infra.registry import ModelRegistry
from infra.storage import S3Store, open_store
from infra.storage.local import LocalStore
from tests.doubles.dying_s3 import publish_dying
from tests.doubles.forks import forks
from tests.doubles.moto_s3 import moto_s3
from tests.doubles.races import copy_store
from tests.tasks.stored import NAME, NOW, check_whole, publish_and_promote, sealed, stage_popularity
from tests.volume import volume


@pytest.fixture
def moto() -> Iterator[StoreSettings]:
    with moto_s3() as endpoint:
        values = {"url": "s3://crash/x", "endpoint_url": endpoint, "timeout_s": 30}
        found = StoreSettings.model_validate({**values, "access_key_id": "testing", "secret_access_key": "testing"})
        S3Store("crash", "x", found)._client.create_bucket(Bucket="crash")
        yield found


@pytest.mark.nightly  # tests/tasks/gate/test_crash_points.py shows it by day for a folder
@pytest.mark.full
# A kill during a write leaves the same as a kill right after the write before.
@pytest.mark.parametrize(("server", "kills"), [("moto", volume(1, 2)), pytest.param("ceph", 1, marks=pytest.mark.nightly)])
def test_a_run_killed_at_any_write_to_s3_leaves_a_valid_champion(
    server: str, kills: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server_settings: StoreSettings = request.getfixturevalue(server)
    made = LocalStore(tmp_path / "store")
    first = sealed(made, tmp_path / "m")
    ModelRegistry(made).promote(NAME, first.version, expected=0, reason="the first", now=NOW)
    stage_popularity(LocalStore(tmp_path / "elsewhere"), tmp_path / "trained", hour=1)
    writes = len(ModelRegistry(made).manifest(NAME, first.version)["files"]) + 3  # the manifest, the lease and the entry
    stored, seen = list(made.list()), []
    for number in range(1, writes + 2):
        for when in ("half", "after")[:kills]:
            settings = server_settings.model_copy(update={"url": f"{server_settings.url}/n{number}{when}"})
            store = open_store(settings)
            copy_store(made, store)
            process = forks.Process(target=publish_dying, args=(settings, number, when, tmp_path / "trained"))
            process.start()
            process.join()
            assert process.exitcode == (-signal.SIGKILL if number <= writes else 0)
            written = min(number, writes) - (when == "half" and number <= writes)
            kept = [key for key in store.list() if not key.startswith("leases/")]
            assert len(kept) == len(stored) + written - (written >= writes - 1), "half of an object was stored"
            current, versions = ModelRegistry(store).champion(NAME), ModelRegistry(store).versions(NAME)
            assert current is not None
            seen.append((current.number, len(versions)))
            for ref in versions:
                ModelRegistry(store).verify(ref)
            check_whole(store, next(ref for ref in versions if ref.version == current.version))
            again = publish_and_promote(store, tmp_path / "trained", hours=1)
            now = ModelRegistry(store).champion(NAME)
            assert now is not None and now.version == again.version and now.number == current.number + 1
    assert set(seen) == {(1, 1), (1, 2), (2, 2)} and seen == sorted(seen)
