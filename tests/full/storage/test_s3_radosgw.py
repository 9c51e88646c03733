"""The store on a real S3 server, Ceph's."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, StoreDeniedError
from configs.settings import PromotionSettings, StoreSettings
from infra.registry import ModelRegistry
from infra.storage import S3Store, open_store
from infra.storage.local import LocalStore
from tasks.evaluation import check_version
from tests.doubles.contract import check_contract, check_one_winner
from tests.doubles.races import copy_store, race_to_promote, race_to_publish, three_versions
from tests.doubles.radosgw import PROGRAMS
from tests.tasks.stored import NAME, sealed

missing = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed; CONTRIBUTING.md names Ceph's Debian packages"),
]


def test_ceph_keeps_the_contract(ceph: StoreSettings, tmp_path: Path) -> None:
    check_contract(open_store(ceph), tmp_path)


def test_one_of_many_creates_wins(ceph: StoreSettings) -> None:
    check_one_winner(open_store(ceph), writers=16, rounds=5)


def test_a_version_is_sealed_checked_and_promoted(ceph: StoreSettings, tmp_path: Path) -> None:
    store = open_store(ceph)
    registry = ModelRegistry(store)
    ref = sealed(store, tmp_path / "model")
    assert check_version(store, ref, PromotionSettings()).ok
    registry.promote(NAME, ref.version, expected=0, reason="first", now=datetime.now(UTC))
    current = registry.champion(NAME)
    assert current is not None and current.version == ref.version
    with pytest.raises(AlreadyExistsError):
        registry.promote(NAME, ref.version, expected=0, reason="again", now=datetime.now(UTC))


def test_wrong_credentials_and_a_missing_bucket_are_told_apart(ceph: StoreSettings) -> None:
    wrong = ceph.model_copy(update={"access_key_id": "nobody"})
    with pytest.raises(StoreDeniedError, match=r"InvalidAccessKeyId.*store.access_key_id"):
        open_store(wrong).put("k", b"x")
    elsewhere = open_store(ceph.model_copy(update={"url": "s3://no-such-bucket"}))
    for call in (lambda: elsewhere.put("k", b"x"), lambda: elsewhere.exists("k"), lambda: list(elsewhere.list())):
        with pytest.raises(StoreDeniedError, match="bucket no-such-bucket does not exist"):
            call()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race")


@pytest.fixture(scope="module")
def made(root: Path) -> tuple[LocalStore, list[str]]:
    return three_versions(root)


@pytest.mark.nightly  # on a folder and on moto: tests/infra/registry/test_promotion_races.py
def test_one_of_6_processes_promotes_in_each_round(ceph: StoreSettings, made: tuple[LocalStore, list[str]]) -> None:
    store, versions = made
    copy_store(store, open_store(ceph))
    race_to_promote(ceph, versions, processes=6, rounds=12)


@pytest.mark.nightly
@pytest.mark.usefixtures("made")
def test_one_of_6_processes_publishes_the_version_of_each_round(ceph: StoreSettings, root: Path) -> None:
    race_to_publish(ceph, root / "m0", processes=6, rounds=8)


def test_more_keys_than_fit_on_a_page_are_listed_as_in_a_folder_whatever_their_spelling(
    ceph: StoreSettings, tmp_path: Path
) -> None:
    """The promotion log and the lists of versions rest on ascending order, and on nothing being left out between pages."""
    names = [f"log/{number:08d}.json" for number in range(1, 1_031)]
    names += [
        f"odd/{name}" for name in ("a b", "a+b", "a%2Fb", "a-b", "a.b", "a/b", "aB", "ab", "é", "日本", "😀", "~", "a&b=c", "<x>")
    ]
    store, folder = open_store(ceph), LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    for name in names:
        folder.put(name, b"")
    for prefix in ("", "log/", "log/0000100", "odd/", "odd/a", "odd/a/", "none"):
        assert list(store.list(prefix)) == list(folder.list(prefix)), prefix
    assert all(store.exists(name) and store.get(name) == b"" for name in names[-14:])


def test_an_object_made_in_parts_can_be_replaced_and_read_and_changes_its_tag(ceph: StoreSettings, tmp_path: Path) -> None:
    store = S3Store(ceph.url.removeprefix("s3://").partition("/")[0], "p", ceph)
    store.part_bytes = 5 << 20
    one, other = b"1" * (11 << 20), b"2" * (11 << 20)
    store.put("k", one)
    (first,) = store.entries("k")
    store.put("k", other)
    (second,) = store.entries("k")
    assert first.tag != second.tag and first.size == second.size == len(one)
    assert store.get("k") == other
    store.put("k", b"small")
    assert store.get("k") == b"small" and [entry.size for entry in store.entries("k")] == [5]
    with pytest.raises(AlreadyExistsError):
        store.put_new("k", one)
