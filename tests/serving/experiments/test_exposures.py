"""Exposures are read while their files are rotated, and refused if their times are not in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from configs.errors import SourceError
from configs.serving import ExposureSettings
from infra.storage.local import LocalStore
from serving.experiments import Exposure, ExposureLog, read_exposures, stored_exposures


def line(number: int, time: int = 1_790_000_000) -> str:
    return json.dumps(asdict(Exposure(time + number, number, f"r{number}", "v1", [3, 1]))) + "\n"


def users(found: Iterator[Exposure]) -> list[int | str]:
    return [each.user for each in found]


def test_a_file_that_is_finished_while_the_folder_is_read_is_read_under_its_new_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl.open"
    first.write_text(line(1))
    second.write_text(line(2) + line(3))
    reading = read_exposures(tmp_path)
    assert next(reading).user == 1
    second.rename(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl.open").write_text(line(4))  # the writer goes on in another file
    assert users(reading) == [2, 3]


def test_a_file_that_goes_to_the_store_while_the_folder_is_read_is_reported_as_missing(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl.open"
    first.write_text(line(1))
    second.write_text(line(2))
    reading = read_exposures(tmp_path)
    next(reading)
    second.unlink()
    with pytest.raises(SourceError, match=r"b\.jsonl\.open was moved while the log was read.*run the command again"):
        next(reading)


@pytest.mark.parametrize(("scale", "unit"), [(1000, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")])
def test_exposures_in_another_unit_are_refused_and_the_unit_is_named(scale: int, unit: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1) + line(2, 1_790_000_000 * scale))
    with pytest.raises(SourceError, match=rf"a\.jsonl, line 2 .*{unit}.*UTC seconds"):
        list(read_exposures(path))


def test_a_store_without_exposures_points_to_the_log_that_is_still_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore(tmp_path / "store")
    with pytest.raises(SourceError, match=r"holds no exposures: give the folder of the log with --exposures\.$"):
        list(stored_exposures(store))
    log = ExposureLog(ExposureSettings(flush_s=0.01))
    log.write(Exposure(1_790_000_000, 1, "r", "v1", [3], "e", "control", "abc"))
    assert log.flush(60)
    with pytest.raises(
        SourceError, match=r"yet, but the log in \.recsys/exposures has 1 file that is not uploaded: give the folder"
    ):
        list(stored_exposures(store))
    log.close(60)
