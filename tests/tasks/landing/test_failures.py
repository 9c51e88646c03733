"""Files that cannot be read and disks that are full: one odd file does not keep out the others, and nothing is lost."""

from __future__ import annotations

import io
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import StoreFullError
from infra.landing_zone import FolderZone, SourceFile
from tasks.datasets import FileAccount, list_datasets
from tasks.ingest import EventFile
from tasks.landing import Landing, new_files
from tests.tasks.landed import NOW, Place, events


def accounts(landing: Landing) -> dict[str, FileAccount]:
    return {account.file: account for account in landing.accounts}


def bad_name() -> bytes:
    """A Parquet file of events with a column whose name is not UTF-8."""
    buffer = io.BytesIO()
    events((3, 1, 4, 0)).assign(device_name="tv").to_parquet(buffer)
    return buffer.getvalue().replace(b"device_name", b"\xff" * len("device_name"))


@pytest.mark.parametrize("kind", ["name", "cell", "link", "closed"])
def test_one_odd_file_does_not_keep_out_the_others(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path, give_up_s=7200)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.put("z.csv", events((2, 1, 4, 0)))
    odd = {"name": "odd.parquet", "cell": "odd.csv", "link": "odd.csv", "closed": "odd.csv"}[kind]
    if kind == "name":
        place.put(odd, bad_name())
    elif kind == "cell":
        place.put(odd, f"userId,movieId,rating,timestamp,comment\n3,1,4,946684800,{'x' * 9_000_000}\n4,1,4,946684800,\n")
    elif kind == "link":
        (place.zone / odd).symlink_to(place.zone / odd)
    else:
        place.put(odd, events((3, 1, 4, 0)))
        opened = FolderZone.opened

        def refused(self: FolderZone, file: SourceFile, scratch: Path) -> AbstractContextManager[Path]:
            if file.name == odd:
                raise OSError(5, "Input/output error", str(self.folder / odd))
            return opened(self, file, scratch)

        monkeypatch.setattr(FolderZone, "opened", refused)
    found = place.land()
    assert accounts(found)["a.csv"].accepted == accounts(found)["z.csv"].accepted == 1
    said = {**found.waiting, **{record.getMessage(): "" for record in caplog.records}}
    if kind == "cell":
        assert accounts(found)[odd].accepted == 2 and said == {}
    elif kind == "name":
        assert "not a Parquet file" in said[odd]
        given_up = accounts(place.land(now=NOW + 7200))[odd]
        assert given_up.status == "quarantined" and odd in given_up.why
    elif kind == "link":
        assert len(said) == 1 and str(place.zone / odd) in next(iter(said))
    else:
        assert said == {odd: "it cannot be read: Input/output error. Fix it, or remove it from the landing zone"}
        monkeypatch.undo()
        assert accounts(place.land())[odd].accepted == 1


@pytest.mark.parametrize(
    "error", [pa.ArrowNotImplementedError("no kernel\nmatching"), OverflowError("too large"), ValueError("year 10000")]
)
def test_a_file_that_fails_in_a_way_that_was_not_foreseen_does_not_keep_out_the_others(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path, give_up_s=7200)
    for number, name in enumerate(("a.csv", "odd.csv", "z.csv"), 1):
        place.put(name, events((number, 1, 4, 0)))
    reads = new_files.open_event_file

    def fails(path: Path, *args: Any) -> EventFile:
        if path.name == "odd.csv":
            raise error
        return reads(path, *args)

    monkeypatch.setattr(new_files, "open_event_file", fails)
    found = place.land()
    assert accounts(found)["a.csv"].accepted == accounts(found)["z.csv"].accepted == 1
    assert f"not foreseen ({type(error).__name__}: {' '.join(str(error).split())})" in found.waiting["odd.csv"]
    assert "\n" not in found.waiting["odd.csv"] and caplog.records[0].exc_info
    given_up = accounts(place.land(now=NOW + 7200))["odd.csv"]
    assert given_up.status == "quarantined" and "recsys data retry" in given_up.why
    monkeypatch.undo()
    assert accounts(place.land(now=NOW + 7200, retry_quarantined=True))["odd.csv"].accepted == 1


def test_a_lack_of_memory_is_no_fault_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))

    def fails(*_: Any) -> EventFile:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(new_files, "open_event_file", fails)
    with pytest.raises(MemoryError):
        place.land()


GOOD, BAD = events((2, 1, 4, 0)), "userId,movieId,rating,timestamp\n2,1,9,946684900\n"


# The writer that could not be closed fails again when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("writer", "file", "content"),
    [
        ("write_table", ".added.parquet", GOOD),
        ("write_table", ".events.parquet", GOOD),
        ("write_table", ".quarantine.parquet", BAD),
        ("close", ".quarantine.parquet", BAD),
    ],
)
def test_the_error_names_a_full_disk_and_nothing_is_added(
    writer: str, file: str, content: pd.DataFrame | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    first = place.land()
    place.put("b.csv", content)
    fill_the_disk(monkeypatch, writer, file)
    with pytest.raises(StoreFullError, match=r"etl\.work_dir .*/work\) cannot be written: No space left on device"):
        place.land()
    monkeypatch.undo()
    assert list_datasets(place.store) == [first.dataset]
    found = place.land()
    assert len(found.accounts) == 1 and found.dataset.rows == (1 if content is BAD else 2)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, method: str, file: str) -> None:
    """Make the disk full when a Parquet file of this name is written or closed."""
    plain = getattr(pq.ParquetWriter, method)

    def full(self: pq.ParquetWriter, *arguments: object, **options: object) -> None:
        if file in str(self.where):
            raise OSError(28, "No space left on device")
        plain(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetWriter, method, full)


def test_the_error_names_a_full_disk_during_a_compaction_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    for number in range(2):
        place.put(f"{number}.csv", events((number, 1, 4, 0)))
        ref = place.land().dataset
    fill_the_disk(monkeypatch, "write_table", "compacted.parquet")
    with pytest.raises(StoreFullError, match=r"etl\.work_dir .*/work\) cannot be written: No space left on device"):
        place.compact()
    monkeypatch.undo()
    assert list_datasets(place.store)[-1] == ref and place.compact().rows == 2


def test_what_killed_runs_left_in_the_work_folder_is_removed_a_day_later(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    for name, age in (("1-killed", 90_000), ("2-running", 80_000)):
        left = place.engine.work_dir / "landing" / name
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age, time.time() - age))
    place.land()
    assert [left.name for left in (place.engine.work_dir / "landing").iterdir()] == ["2-running"]
