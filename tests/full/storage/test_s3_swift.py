"""OpenStack Swift looks for an object when a create begins, and writes it when the body has arrived. The store refuses Swift."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from configs.errors import StoreError
from configs.settings import StoreSettings
from infra.storage import S3Store
from infra.storage.s3_exclusive import Proof
from tests.doubles.s3.racing_swift import PYTHON, swift_s3
from tests.volume import volume

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON} is missing; `make swift` installs OpenStack Swift"),
]


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    with swift_s3(tmp_path_factory.mktemp("swift")) as url:
        keys = {"access_key_id": "test:tester", "secret_access_key": "testing"}
        settings = StoreSettings.model_validate({"url": "s3://films/p", "endpoint_url": url, **keys, "timeout_s": 60})
        S3Store("films", "p", settings)._client.create_bucket(Bucket="films")
        yield settings


def test_creates_on_swift_are_refused_at_each_first_use_even_by_eight_stores_at_once(swift: StoreSettings) -> None:
    def create(number: int) -> None:
        with pytest.raises(StoreError, match=r"of 8 concurrent creates of one key succeed.*Use a server that supports"):
            S3Store("films", "p", swift).put_new("promotions/1", b"%d" % number)

    for _ in range(volume(3, 20)):  # each examination notices it, not just most of them
        Proof.known.clear()
        create(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))
    assert list(S3Store("films", "p", swift).list()) == []


def test_no_claim_on_swift_is_lost_silently(swift: StoreSettings) -> None:
    """Here the proof counts as passed: what claims guarantee must hold on a server that races."""
    stores = [S3Store("films", "p", swift) for _ in range(6)]

    def claim(number: int, key: str) -> str:
        stores[number]._proof.exclusive = True
        try:
            stores[number].claim(key, b"%d" % number)
        except StoreError as error:
            return type(error).__name__
        return "won"

    lost: list[str] = []
    for turn in range(100):
        if turn >= volume(5, 40) and "OverwrittenError" in lost:  # the server has raced, which is left to chance
            break
        with ThreadPoolExecutor(6) as pool:
            told = list(pool.map(lambda number, t=turn: claim(number, f"entry-{t}"), range(6)))
        assert told.count("won") == 1, told
        assert stores[0].get(f"entry-{turn}") == b"%d" % told.index("won")
        lost += told
    assert "OverwrittenError" in lost, "Swift did not race"
