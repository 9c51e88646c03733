from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import NotFoundError, StoreFullError, VersionCorruptError
from configs.settings import DataSettings, StoreSettings, ValidationSettings
from infra.storage.local import LocalStore
from models.columns import Columns
from tasks.datasets import (
    DatasetRef,
    Quarantine,
    chosen_dataset,
    last_delivery,
    list_datasets,
    load_dataset_ref,
    quarantined,
    read_events,
    read_manifest,
    read_table,
    record_refusal,
    verify_dataset,
    write_dataset,
)
from tasks.ingest import ReleaseRefusedError, build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tests import synthetic
from tests.tasks.landed import NAME, NOW, Place, events

LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)


def write(store: LocalStore, frame: pd.DataFrame, name: str = "small") -> DatasetRef:
    validated = validate(RawTables(frame, None, None, ()), LAX, 1_700_000_000)
    return write_dataset(store, name, validated, build_features(validated.interactions), {"ratings.csv": "ab"})


def test_the_tables_of_a_version_read_back_as_they_were_written(tmp_path: Path) -> None:
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


def test_a_delivery_that_adds_nothing_is_recorded_and_counted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    frame = synthetic.interactions(20, 30, 10).astype({"user_id": object})
    ref = write(store, frame)
    bad = frame.iloc[:10].assign(user_id="?")
    again = write(store, pd.concat([frame, bad], ignore_index=True))
    assert again == ref and len(list_datasets(store)) == 1
    assert quarantined(store, ref) == Quarantine(210, 10)
    delivery = last_delivery(store, ref)
    assert delivery is not None and (delivery.rows, delivery.added, delivery.quarantined) == (210, 0, 10)
    keys = sorted(store.list(ref.prefix))
    assert write(store, pd.concat([frame, bad], ignore_index=True)) == ref and sorted(store.list(ref.prefix)) == keys
    (kept,) = [key for key in keys if key.endswith("quarantine.parquet")]
    assert len(pd.read_parquet(io.BytesIO(store.get(kept)))) == 10
    write(store, frame)
    assert quarantined(store, ref) == Quarantine(200, 0)


def test_a_refused_release_is_recorded_beside_the_newest_version_of_a_release_and_nowhere_else(tmp_path: Path) -> None:
    place = Place(tmp_path, settle_s=0.0)
    refusal = ReleaseRefusedError("too many bad rows")
    bad = RawTables(synthetic.interactions(20, 30, 10).assign(rating=99), None, None, ())
    refusal.report = validate(bad, LAX.model_copy(update={"min_rows": 0}), 1_700_000_000).report
    record_refusal(place.store, NAME, refusal, {"ratings.csv": "cd"})
    assert list(place.store.list()) == []
    released = write(place.store, synthetic.interactions(20, 30, 10), NAME)
    record_refusal(place.store, NAME, refusal, {"ratings.csv": "cd"})
    delivery = last_delivery(place.store, released)
    assert delivery is not None and (delivery.rows, delivery.added, delivery.quarantined) == (200, 0, 200)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.land()
    before = sorted(place.store.list())
    record_refusal(place.store, NAME, refusal, {"ratings.csv": "ef"})
    assert sorted(place.store.list()) == before


def test_the_newest_version_is_the_one_that_was_made_last(tmp_path: Path) -> None:
    place = Place(tmp_path, settle_s=0.0)
    place.put("a.csv", events((1, 1, 4, 0)))
    landed = place.land().dataset
    old_release = write(place.store, synthetic.interactions(20, 30, 10), NAME)
    settings = {"data": DataSettings(dataset=NAME), "store": StoreSettings(url=f"file:{place.store.folder}")}
    assert chosen_dataset(None, **settings) == old_release
    place.put("b.csv", events((1, 2, 4, 0)))
    newest = place.land(NOW - 86_400).dataset  # a clock that is behind changes nothing
    assert [ref.version for ref in list_datasets(place.store)] == [landed.version, old_release.version, newest.version]
    for ref in (landed, newest):  # as earlier versions stored them: the release has later events
        manifest = read_manifest(place.store, NAME, ref.version)
        place.store.put(f"{ref.prefix}/manifest.json", json.dumps({**manifest, "created": 0.0}).encode())
    assert list_datasets(place.store)[-1] == old_release


def test_a_version_without_a_manifest_does_not_exist_until_it_is_written_again(tmp_path: Path) -> None:
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


def test_a_manifest_that_is_not_json_is_noticed(tmp_path: Path) -> None:
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
        """A store in which another run seals the version between the check and the write."""

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
    read_table(store, ref, "interactions")  # the table and the manifest agree
    with pytest.raises(VersionCorruptError, match="do not match the version's name"):
        verify_dataset(store, ref)


def test_events_in_chunks_are_those_of_the_table_also_in_a_store_of_an_earlier_version(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parents[2] / "data" / "store-0.1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    store = LocalStore(tmp_path / "store")
    versions = list_datasets(store)
    assert {ref.number > 0 for ref in versions} == {False, True}, "a release, and versions made of parts"
    for ref in versions:
        read = pd.concat([pd.DataFrame(chunk) for chunk in read_events(store, ref)], ignore_index=True)
        pd.testing.assert_frame_equal(read, read_table(store, ref, "interactions", list(Columns.HAPPENED)))
