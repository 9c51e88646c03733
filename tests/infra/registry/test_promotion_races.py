"""Many processes promote or publish at the same time, round after round. One wins each round, and the store stays intact."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, OverwrittenError
from configs.settings import StoreSettings
from infra.registry import ModelRegistry
from infra.storage import S3Store, open_store
from infra.storage.local import LocalStore
from tests.doubles.moto_s3 import moto_s3
from tests.doubles.races import copy_store, race_to_promote, race_to_publish, three_versions
from tests.doubles.s3.small_s3 import small_s3
from tests.tasks.stored import NAME, NOW
from tests.volume import volume


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race")


@pytest.fixture(scope="module")
def made(root: Path) -> tuple[LocalStore, list[str]]:
    return three_versions(root)


@pytest.fixture
def s3() -> Iterator[StoreSettings]:
    with moto_s3() as endpoint:
        place = {"url": "s3://races/some/place", "endpoint_url": endpoint, "timeout_s": 30}
        settings = StoreSettings.model_validate({**place, "access_key_id": "testing", "secret_access_key": "testing"})
        S3Store("races", "", settings)._client.create_bucket(Bucket="races")
        yield settings


def test_one_of_16_processes_wins_each_round(made: tuple[LocalStore, list[str]], tmp_path: Path) -> None:
    store, versions = made
    settings = StoreSettings(url=f"file:{tmp_path}/store")
    copy_store(store, open_store(settings))
    race_to_promote(settings, versions, processes=16, rounds=volume(12, 50))


@pytest.mark.full
def test_one_of_6_processes_wins_each_round_on_s3(made: tuple[LocalStore, list[str]], s3: StoreSettings) -> None:
    store, versions = made
    copy_store(store, open_store(s3))
    race_to_promote(s3, versions, processes=6, rounds=5)


@pytest.mark.usefixtures("made")
def test_one_of_6_processes_publishes_the_version_of_each_round(root: Path, tmp_path: Path) -> None:
    race_to_publish(StoreSettings(url=f"file:{tmp_path}/store"), root / "m0", processes=6, rounds=10)


@pytest.mark.full
def test_on_a_server_that_races_after_its_proof_no_promotion_is_lost_silently(made: tuple[LocalStore, list[str]]) -> None:
    source, versions = made
    overwritten = 0
    with small_s3() as server:
        place = {"url": "s3://b/p", "endpoint_url": server.url, "access_key_id": "id", "secret_access_key": "secret"}
        settings = StoreSettings.model_validate({**place, "attempts": 1})
        stores = [S3Store("b", "p", settings) for _ in range(5)]
        copy_store(source, stores[0])
        stores[0].put_new("warm", b"")
        server.looks, server.gap = "body", lambda: random.uniform(0.0, 0.15)

        def promote(process: int, number: int) -> str:
            stores[process]._proof.exclusive = True  # after the first loss, the store refuses to create anything
            try:
                registry = ModelRegistry(stores[process])
                version = versions[process % len(versions)]
                registry.promote(NAME, version, expected=number, reason=f"process {process}", now=NOW)
            except (AlreadyExistsError, OverwrittenError) as error:
                return str(error)
            return "promoted"

        for number in range(100):
            if number >= volume(6, 30) and overwritten:  # the server has raced, which is left to chance
                break
            with ThreadPoolExecutor(5) as pool:
                told = list(pool.map(lambda process, n=number: promote(process, n), range(5)))
            entries = ModelRegistry(stores[0]).history(NAME)
            assert [entry.number for entry in entries] == list(range(1, number + 2))
            assert [process for process, said in enumerate(told) if said == "promoted"] == [int(entries[-1].reason[-1])], told
            lost = [said for said in told if "was lost: another run promoted at the same time" in said]
            assert all(f"entry {number + 1} of the log" in said and "Use a server that supports" in said for said in lost)
            overwritten += len(lost)
    assert overwritten, "the server did not race"
