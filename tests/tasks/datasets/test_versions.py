from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import NotFoundError, StoreFullError, VersionCorruptError
from configs.settings import ValidationSettings
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, list_datasets, load_dataset_ref, read_manifest, read_table, verify_dataset, write_dataset
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tests import synthetic

LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)


def write(store: LocalStore, frame: pd.DataFrame, name: str = "small") -> DatasetRef:
    validated = validate(RawTables(frame, None, None, ()), LAX, 1_700_000_000)
    return write_dataset(store, name, validated, build_features(validated.interactions), {"ratings.csv": "ab"})


def test_a_version_holds_tables_that_read_back(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    frame = synthetic.interactions(20, 30, 10).astype({"user_id": object})
    frame.loc[3, "user_id"] = "?"
    ref = write(store, frame)
    assert (ref.rows, ref.users) == (199, 20)
    interactions = read_table(store, ref, "interactions")
    assert len(interactions) == 199 and interactions["timestamp"].dtype == "int64"
    assert len(read_table(store, ref, "quarantine")) == 1
    assert list(read_table(store, ref, "features", ["gap_s"]).columns) == ["gap_s"]
    manifest = read_manifest(store, "small", ref.version)
    assert manifest["source_hashes"] == {"ratings.csv": "ab"}
    assert manifest["validation"]["tables"]["interactions"]["quarantined"] == 1
    assert (ref.first, ref.last) == (interactions["timestamp"].min(), interactions["timestamp"].max())


def test_the_same_content_is_the_same_version_and_nothing_is_rewritten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    frame = synthetic.interactions(20, 30, 10)
    ref = write(store, frame)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert write(store, frame) == ref
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    other = frame.copy()
    other.loc[0, "rating"] = 6 - other.loc[0, "rating"] if other.loc[0, "rating"] != 3 else 4
    assert write(store, other).version != ref.version
    assert len(list_datasets(store)) == 2


def test_a_version_without_manifest_does_not_exist_and_is_completed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ref = write(store, synthetic.interactions(20, 30, 10))
    store.delete(f"{ref.prefix}/manifest.json")
    assert list_datasets(store) == []
    with pytest.raises(NotFoundError, match=ref.version):
        load_dataset_ref(store, "small", ref.version)
    assert write(store, synthetic.interactions(20, 30, 10)) == ref


def test_a_changed_table_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ref = write(store, synthetic.interactions(20, 30, 10))
    store.put(f"{ref.prefix}/items.parquet", store.get(f"{ref.prefix}/users.parquet"))
    with pytest.raises(VersionCorruptError, match=r"items\.parquet differs"):
        read_table(store, ref, "items")


def test_a_manifest_that_is_no_json_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ref = write(store, synthetic.interactions(20, 30, 10))
    store.put(f"{ref.prefix}/manifest.json", b'{"rows": 20')
    with pytest.raises(VersionCorruptError, match=r"manifest\.json cannot be read as JSON"):
        load_dataset_ref(store, "small", ref.version)


def test_the_same_values_as_text_are_the_same_version(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    frame = synthetic.interactions(20, 30, 10)
    assert write(store, frame).version == write(store, frame.astype(str)).version


def test_a_full_disk_leaves_the_last_good_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    ref = write(store, synthetic.interactions(20, 30, 10))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infra.storage.local.os.fsync", full)
    with pytest.raises(StoreFullError, match="disk of the store is full"):
        write(store, synthetic.interactions(21, 30, 10))
    monkeypatch.undo()
    assert list_datasets(store) == [ref]
    assert not list((tmp_path / ".tmp").iterdir())


def test_two_runs_that_write_one_version_agree(tmp_path: Path) -> None:
    class Racing(LocalStore):
        """Another run seals the version between the look and the write."""

        def exists(self, key: str) -> bool:
            return False

    ref = write(LocalStore(tmp_path), synthetic.interactions(20, 30, 10))
    assert write(Racing(tmp_path), synthetic.interactions(20, 30, 10)) == ref
    assert json.loads(LocalStore(tmp_path).get(f"{ref.prefix}/manifest.json"))["rows"] == 200


def test_a_table_edited_together_with_the_manifest_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ref = write(store, synthetic.interactions(20, 30, 10))
    verify_dataset(store, ref)
    content = io.BytesIO()
    events = read_table(store, ref, "interactions")
    events.assign(item_id=events["item_id"].to_numpy()[::-1]).to_parquet(content, index=False)
    store.put(f"{ref.prefix}/interactions.parquet", content.getvalue())
    manifest = read_manifest(store, "small", ref.version)
    manifest["files"]["interactions.parquet"] = hashlib.sha256(content.getvalue()).hexdigest()
    store.put(f"{ref.prefix}/manifest.json", json.dumps(manifest).encode())
    read_table(store, ref, "interactions")  # the two agree with each other
    with pytest.raises(VersionCorruptError, match="do not match the version's name"):
        verify_dataset(store, ref)
