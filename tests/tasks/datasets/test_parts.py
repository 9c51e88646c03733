"""The local copies that a run keeps of files in a remote store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from configs.errors import VersionCorruptError
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, Layout, PartFiles, merged_events, read_manifest
from tests.tasks.landed import NAME, Place, events, random_events

DAY = 86_400


class Remote(LocalStore):
    """A store whose objects have to be fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fetched: list[str] = []

    def local_file(self, key: str) -> Path | None:
        return None

    def fetch(self, key: str, path: Path) -> None:
        self.fetched.append(key)
        super().fetch(key, path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.store = Remote(tmp_path / "store")
    return place


def age(folder: Path, days: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - days * DAY,) * 2)


def layout_of(place: Place, ref: DatasetRef) -> Layout:
    return Layout.from_dict(read_manifest(place.store, NAME, ref.version)["layout"])


def cached(place: Place) -> set[str]:
    return {path.name for path in (place.engine.work_dir / "parts").iterdir()}


def names(layout: Layout) -> set[str]:
    return {f"{file.sha256}.parquet" for file in layout.files}


def landed(place: Place, number: int) -> Layout:
    place.put(f"{number}.csv", random_events(number, 40, users=200))
    return layout_of(place, place.land().dataset)


def test_runs_do_not_fill_the_disk_with_parts_that_no_longer_exist(place: Place) -> None:
    folder = place.engine.work_dir / "parts"
    landed(place, 1)
    before = landed(place, 2)
    folded = layout_of(place, place.compact())
    large = f"{folded.parts[0].events.sha256}.parquet"
    age(folder, 0.9)
    third = landed(place, 3)
    assert {f"{part.events.sha256}.parquet" for part in before.parts} < cached(place), "another run may still need them"
    (folder / ".ab.parquet.0123").write_bytes(b"half of a file, by a run that was killed")
    age(folder, 1.1)
    fourth = landed(place, 4)
    assert large in cached(place) and cached(place) <= names(third) | names(fourth)
    age(folder, 1.1)
    compacted = layout_of(place, place.compact())
    assert cached(place) <= names(fourth) | names(compacted)
    age(folder, 1.1)
    assert layout_of(place, place.compact()) == compacted, "the version has one part, so there is nothing to compact"
    assert cached(place) <= names(compacted)


def test_a_file_that_is_in_use_counts_as_new(place: Place) -> None:
    folder = place.engine.work_dir / "parts"
    landed(place, 1)
    layout, files = landed(place, 2), PartFiles(place.store, place.engine.work_dir / "parts")
    merged_events(files, layout)
    age(folder, 2)
    PartFiles(place.store, folder).frame(layout.parts[0].events)
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    assert newest.name == f"{layout.parts[0].events.sha256}.parquet" and time.time() - newest.stat().st_mtime < DAY


def test_a_reader_goes_on_when_another_run_removes_the_file(place: Place) -> None:
    folder = place.engine.work_dir / "parts"
    layout = landed(place, 1)
    part = layout.parts[0].events
    files = PartFiles(place.store, folder)
    opened = files.parquet(part)
    (folder / f"{part.sha256}.parquet").unlink()
    assert opened.read().num_rows == part.rows
    assert files.frame(part).shape[0] == part.rows, "the file is fetched again"


def test_a_file_that_is_removed_just_before_it_is_opened_is_fetched_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.engine.work_dir / "parts"
    part = landed(place, 1).parts[0].events
    files = PartFiles(place.store, folder)
    files.frame(part)
    touch, removed = os.utime, list[Path]()

    def removing(path: Path) -> None:
        touch(path)
        if not removed:
            removed.append(path)
            path.unlink()

    monkeypatch.setattr("tasks.datasets.part_files.os.utime", removing)
    assert files.frame(part).shape[0] == part.rows and removed


def test_an_object_that_was_changed_is_named_and_not_fetched_for_ever(place: Place) -> None:
    assert isinstance(place.store, Remote)
    part = landed(place, 1).parts[0].events
    whole = place.store.get(part.key)
    place.store.put(part.key, whole[:-1] + bytes([whole[-1] ^ 1]))
    place.store.fetched.clear()
    with pytest.raises(VersionCorruptError, match=r"events-.*differs from its manifest"):
        PartFiles(place.store, place.engine.work_dir / "other").parquet(part)
    assert len(place.store.fetched) == 2


def test_a_store_on_this_machine_needs_no_copies(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for number in range(3):
        place.put(f"{number}.csv", events((number, 1, 4, 0)))
        place.land()
    assert place.compact().rows == 3 and not (place.engine.work_dir / "parts").exists()
