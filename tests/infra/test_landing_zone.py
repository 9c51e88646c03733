from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from configs.errors import NotFoundError, SettingsError, SourceError, StoreDeniedError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.landing_zone import FolderZone, LandingZone, ObjectZone, SourceFile, open_zone
from infra.storage import open_store
from tasks.datasets import read_table, verify_dataset
from tasks.landing import LandingOptions, land
from tests.doubles.moto_s3 import moto_s3
from tests.tasks.landed import LAX, NAME, NOW, Place, csv, events

FILES = {"a.csv": b"1", "2024/01/b.csv.gz": b"22", "2024/c.parquet": b"333"}
HIDDEN = [".a.csv", "_SUCCESS", "2024/_temporary/d.csv", "2024/.staging/d.csv", "e.csv.tmp", "f.csv.PART", "g.csv.partial"]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreSettings]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto_s3() as endpoint:
        found = StoreSettings(url="s3://bucket/store", endpoint_url=endpoint, timeout_s=60)
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="bucket")
        yield found


def check_zone(zone: LandingZone, scratch: Path) -> None:
    scratch.mkdir()
    found = zone.files()
    assert [file.name for file in found] == sorted(FILES) and all(file.modified_ns > 0 for file in found)
    for file in found:
        assert file.size == len(FILES[file.name]) and zone.unchanged(file)
        with zone.opened(file, scratch) as path:
            assert path.read_bytes() == FILES[file.name] and path.name == Path(file.name).name
        assert not list(scratch.iterdir()) and file.name in zone.uri(file.name)
    with pytest.raises(NotFoundError), zone.opened(SourceFile("gone.csv", 1, 1), scratch):
        pass


def test_a_folder_shows_its_finished_files(tmp_path: Path) -> None:
    root = tmp_path / "zone"
    for name in [*FILES, *HIDDEN]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES.get(name, b"x"))
    (root / "link.csv").symlink_to(root / "nothing")
    for url in (str(root), f"file:{root}", f"file://{root}"):
        check_zone(open_zone(url, StoreSettings()), tmp_path / f"scratch{len(url)}")
    zone = FolderZone(root)
    listed = zone.files()[0]
    (root / listed.name).write_bytes(b"more")
    assert not zone.unchanged(listed)
    (root / listed.name).unlink()
    assert not zone.unchanged(listed)


def test_a_file_whose_status_cannot_be_read_is_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.csv").write_bytes(b"1")
    (tmp_path / "b\x1b[31m.csv").symlink_to(tmp_path / "b\x1b[31m.csv")
    (tmp_path / "c.csv").write_bytes(b"1")
    assert [file.name for file in FolderZone(tmp_path).files()] == ["a.csv", "c.csv"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/b\\x1b[31m.csv is skipped: Too many levels of symbolic links. Fix it, or remove it from the landing zone."
    ]


def test_a_prefix_of_a_bucket_shows_its_finished_files(s3: StoreSettings, tmp_path: Path) -> None:
    store = open_store(s3.model_copy(update={"url": "s3://bucket/zone"}))
    for name in [*FILES, *HIDDEN]:
        store.put(name, FILES.get(name, b"x"))
    boto3.client("s3", endpoint_url=s3.endpoint_url, region_name="us-east-1").put_object(Bucket="bucket", Key="zone/2025/")
    zone = open_zone("s3://bucket/zone", s3)
    check_zone(zone, tmp_path / "scratch")
    assert zone.uri() == "s3://bucket/zone/"
    with pytest.raises(StoreDeniedError, match="no-bucket does not exist"):
        open_zone("s3://no-bucket/zone", s3).files()


def test_the_message_names_a_key_that_is_not_a_path(s3: StoreSettings, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=s3.endpoint_url, region_name="us-east-1")
    client.put_object(Bucket="bucket", Key="odd/a//b.csv", Body=b"1")
    zone = open_zone("s3://bucket/odd", s3)
    with pytest.raises(SourceError, match=r"'a//b.csv' is not a key"), zone.opened(zone.files()[0], tmp_path):
        pass


@pytest.mark.parametrize("url", ["s3://", "ftp://host/x", "file:", "//host/share"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"data\.landing is"):
        open_zone(url, StoreSettings())


def test_the_message_names_a_folder_that_is_missing_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"data\.landing is .*nowhere, but there is no such folder"):
        FolderZone(tmp_path / "nowhere").files()
    (tmp_path / "closed").mkdir()

    def refused(folder: str) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    for module, name in ((os, "scandir"), (Path, "is_dir")):
        monkeypatch.setattr(module, name, refused)
        with pytest.raises(StoreUnavailableError, match=r"cannot be read at .*: Permission denied"):
            FolderZone(tmp_path).files()
        monkeypatch.undo()


@pytest.mark.full
def test_a_zone_and_a_store_in_buckets_give_the_same_dataset_as_folders(s3: StoreSettings, tmp_path: Path) -> None:
    place = Place(tmp_path)
    zone = open_store(s3.model_copy(update={"url": "s3://bucket/arrivals"}))
    store = open_store(s3)
    for name, frame in (("a.csv", events((1, 1, 4, 0), (2, 1, 3, 5))), ("b.csv", events((1, 1, 2, 9), (3, 1, 3, 5)))):
        place.put(name, frame)
        zone.put(name, csv(frame).encode())
        wanted = place.land()
        found = land(store, open_zone("s3://bucket/arrivals", s3), NAME, LandingOptions(LAX, place.settings, place.engine, NOW))
        assert found.dataset.version == wanted.dataset.version and found.number == wanted.number
        assert [(a.rows, a.accepted, a.corrections) for a in found.accounts] == [
            (a.rows, a.accepted, a.corrections) for a in wanted.accounts
        ]
    assert read_table(store, found.dataset, "interactions").equals(place.table(wanted.dataset))
    verify_dataset(store, found.dataset)
    again = land(store, open_zone("s3://bucket/arrivals", s3), NAME, LandingOptions(LAX, place.settings, place.engine, NOW))
    assert again.known == 2 and again.accounts == ()


def test_the_copy_of_an_object_does_not_overwrite_the_runs_own_files(tmp_path: Path) -> None:
    class OneObject:
        def fetch(self, key: str, path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(key)

    own = tmp_path / "0.events.parquet"
    own.write_text("made by the run")
    with ObjectZone(OneObject()).opened(SourceFile("day/0.events.parquet", 1, 0), tmp_path) as path:  # type: ignore[arg-type]
        assert path.name == own.name and path.read_text() == "day/0.events.parquet"
    assert own.read_text() == "made by the run" and not path.exists()
