"""Candidates that pass from one machine to another through the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from configs.errors import TrainingError, VersionCorruptError
from infra.registry import file_digests
from infra.storage.local import LocalStore
from models.recommender import EpochReport
from tasks.training import Candidate, Machine, delete_uploaded, download_candidates, upload_candidates

RUN = str(uuid4())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def candidates(tmp_path: Path) -> list[Candidate]:
    found = []
    for kind in ("popularity", "ss4rec"):
        folder = tmp_path / "trained" / kind
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(kind.encode() * 100)
        (folder / "config.json").write_text("{}")
        epochs = [EpochReport(1, 3, 0.5, {"ndcg@10": 0.1}, 1, 2.0)]
        found.append(Candidate(kind, str(folder), epochs, 1, None, 10, "cuda", 12.5, file_digests(folder), threads=3))  # type: ignore[arg-type]
    return found


def edited(store: LocalStore, change: Callable[[Any], None]) -> None:
    key = f"handed-over/{RUN}/candidates.json"
    record = json.loads(store.get(key))
    change(record)
    store.put(key, json.dumps(record).encode())


def test_what_is_downloaded_is_what_was_uploaded(store: LocalStore, candidates: list[Candidate], tmp_path: Path) -> None:
    upload_candidates(store, RUN, candidates)
    upload_candidates(store, RUN, candidates)  # an answer was lost, and the stage was tried again
    found, machine = download_candidates(store, RUN, ["popularity", "ss4rec"], tmp_path / "here")
    for before, after in zip(candidates, found, strict=True):
        assert {**before.to_dict(), "folder": after.folder} == after.to_dict() and type(after) is Candidate
        assert file_digests(Path(after.folder)) == before.files
    assert type(machine) is Machine and {"git_commit", "python", "packages", "hardware"} == set(machine.model_dump())
    assert machine.hardware["replicas"] == 1 and machine.hardware["threads"] == 3
    delete_uploaded(store, RUN)
    assert not list(store.list())


def test_files_of_an_earlier_run_are_not_mixed_in(store: LocalStore, candidates: list[Candidate], tmp_path: Path) -> None:
    upload_candidates(store, RUN, candidates)
    (tmp_path / "here" / "ss4rec").mkdir(parents=True)
    (tmp_path / "here" / "ss4rec" / "old.safetensors").write_text("x")
    download_candidates(store, RUN, ["popularity", "ss4rec"], tmp_path / "here")
    assert not (tmp_path / "here" / "ss4rec" / "old.safetensors").exists()


def test_the_error_names_the_place_where_a_run_left_nothing(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is nothing at .*same store\.url"):
        download_candidates(store, RUN, ["popularity"], tmp_path)


def test_models_other_than_those_asked_for_are_refused(store: LocalStore, candidates: list[Candidate], tmp_path: Path) -> None:
    upload_candidates(store, RUN, candidates)
    with pytest.raises(TrainingError, match="trained popularity, ss4rec instead of popularity, ncf, ss4rec"):
        download_candidates(store, RUN, ["popularity", "ncf", "ss4rec"], tmp_path / "here")


def test_a_file_that_was_changed_on_the_way_is_refused(store: LocalStore, candidates: list[Candidate], tmp_path: Path) -> None:
    upload_candidates(store, RUN, candidates)
    store.put(f"handed-over/{RUN}/ss4rec/model.safetensors", b"other weights")
    with pytest.raises(VersionCorruptError, match=r"model\.safetensors"):
        download_candidates(store, RUN, ["popularity", "ss4rec"], tmp_path / "here")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["candidates"][0]["files"].update({"../../escaped": "0" * 64}),
        lambda record: record["candidates"][0]["files"].update({"config.json": "short"}),
        lambda record: record["candidates"][0].update(kind="../other"),
        lambda record: record.update(format=9),
        lambda record: record.pop("machine"),
        lambda record: record.update(surprise=1),
    ],
)
def test_a_record_that_is_damaged_or_leads_elsewhere_is_refused(
    store: LocalStore, candidates: list[Candidate], tmp_path: Path, change: Callable[[Any], None]
) -> None:
    upload_candidates(store, RUN, candidates)
    edited(store, change)
    with pytest.raises(VersionCorruptError, match="is damaged"):
        download_candidates(store, RUN, ["popularity", "ss4rec"], tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_key_that_is_not_a_flow_run_is_refused(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UUID"):
        download_candidates(store, "../models", ["popularity"], tmp_path)
