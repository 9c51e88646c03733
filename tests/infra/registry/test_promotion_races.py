"""Many processes promote or publish at once, round after round: one wins each round, and what is stored is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import StoreSettings
from infra.storage import S3Store, open_store
from infra.storage.local import LocalStore
from tests.doubles.moto_s3 import moto_s3
from tests.doubles.races import copy_store, race_to_promote, race_to_publish, three_versions
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


def test_of_16_processes_one_wins_each_round(made: tuple[LocalStore, list[str]], tmp_path: Path) -> None:
    store, versions = made
    settings = StoreSettings(url=f"file:{tmp_path}/store")
    copy_store(store, open_store(settings))
    race_to_promote(settings, versions, processes=16, rounds=volume(12, 50))


def test_of_6_processes_one_wins_each_round_on_s3(made: tuple[LocalStore, list[str]], s3: StoreSettings) -> None:
    store, versions = made
    copy_store(store, open_store(s3))
    race_to_promote(s3, versions, processes=6, rounds=5)


@pytest.mark.usefixtures("made")
def test_of_6_processes_one_publishes_the_version_of_each_round(root: Path, tmp_path: Path) -> None:
    race_to_publish(StoreSettings(url=f"file:{tmp_path}/store"), root / "m0", processes=6, rounds=10)
