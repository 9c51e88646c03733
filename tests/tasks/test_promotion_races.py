"""Many processes promote or publish at once, round after round: one wins each round, and what is stored is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from configs.settings import StoreSettings
from infra.stores import LocalStore, open_store
from tests.doubles.races import copy_store, race_to_promote, race_to_publish, three_versions


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race")


@pytest.fixture(scope="module")
def made(root: Path) -> tuple[LocalStore, list[str]]:
    return three_versions(root)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreSettings]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = StoreSettings(url="s3://races/some/place", endpoint_url=f"http://{host}:{port}", timeout_s=30)
    boto3.client("s3", endpoint_url=settings.endpoint_url, region_name="us-east-1").create_bucket(Bucket="races")
    yield settings
    server.stop()


def test_of_16_processes_one_wins_each_of_50_rounds(made: tuple[LocalStore, list[str]], tmp_path: Path) -> None:
    store, versions = made
    settings = StoreSettings(url=f"file:{tmp_path}/store")
    copy_store(store, open_store(settings))
    race_to_promote(settings, versions, processes=16, rounds=50)


def test_of_6_processes_one_wins_each_round_on_s3(made: tuple[LocalStore, list[str]], s3: StoreSettings) -> None:
    store, versions = made
    copy_store(store, open_store(s3))
    race_to_promote(s3, versions, processes=6, rounds=5)


@pytest.mark.usefixtures("made")
def test_of_6_processes_one_publishes_the_version_of_each_round(root: Path, tmp_path: Path) -> None:
    race_to_publish(StoreSettings(url=f"file:{tmp_path}/store"), root / "m0", processes=6, rounds=10)
