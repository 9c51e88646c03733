from __future__ import annotations

import hashlib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from configs.errors import SourceError
from configs.settings import DataSettings
from tasks.ingest import ingest
from tasks.ingest import sources as module
from tests import synthetic


def test_ml_100k_comes_without_a_download(tmp_path: Path) -> None:
    source = ingest(DataSettings(cache_dir=tmp_path))
    assert len(source.tables.interactions) == 100_000
    assert source.tables.items is not None and len(source.tables.items) == 1682
    assert set(source.source_hashes) == {"ml-100k.inter", "ml-100k.item", "ml-100k.user"}
    assert not list(tmp_path.iterdir())


def test_a_local_zip_folder_or_file_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    ratings = synthetic.write_csv(folder, synthetic.interactions(5, 10, 6))
    archive = synthetic.write_zip(tmp_path / "data.zip", folder)
    found = [ingest(DataSettings(local_path=path, cache_dir=tmp_path / "cache")) for path in (folder, ratings, archive)]
    assert [len(source.tables.interactions) for source in found] == [30, 30, 30]
    assert found[0].source_hashes == found[2].source_hashes


def test_a_replaced_zip_of_the_same_name_is_read_again(tmp_path: Path) -> None:
    for users in (4, 7):
        folder = tmp_path / f"data{users}"
        synthetic.write_csv(folder, synthetic.interactions(users, 10, 6))
        archive = synthetic.write_zip(tmp_path / "data.zip", folder)
        source = ingest(DataSettings(local_path=archive, cache_dir=tmp_path / "cache"))
        assert source.tables.interactions["user_id"].nunique() == users


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"data\.local_path is .*nowhere\.zip"):
        ingest(DataSettings(local_path=tmp_path / "nowhere.zip"))


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = synthetic.write_csv(tmp_path, synthetic.interactions(5, 10, 6))
    right = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert len(ingest(DataSettings(local_path=path, checksum=right)).tables.interactions) == 30
    with pytest.raises(SourceError, match=r"ratings\.csv .*not the expected 00"):
        ingest(DataSettings(local_path=path, checksum="sha256:00"))
    with pytest.raises(SourceError, match=r"write md5:<hex>"):
        ingest(DataSettings(local_path=path, checksum="12345"))


def test_a_download_is_kept_and_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ml"
    synthetic.write_dat(folder, synthetic.interactions(5, 10, 6))
    content = synthetic.write_zip(tmp_path / "ml.zip", folder).read_bytes()
    asked = []

    def download(url: str, path: Path, **options: object) -> None:
        asked.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(module, "download", download)
    settings = DataSettings(
        source="ml-1m",
        mirror_url="http://mirror/",
        cache_dir=tmp_path / "cache",
        checksum=f"md5:{hashlib.md5(content).hexdigest()}",
    )
    assert len(ingest(settings).tables.interactions) == 30
    assert len(ingest(settings).tables.interactions) == 30
    assert asked == ["http://mirror/ml-1m.zip"]
    (tmp_path / "cache" / "ml-1m.zip").write_bytes(content[:100])
    with pytest.raises(SourceError, match=r"ml-1m\.zip"):
        ingest(settings)


def test_a_cached_release_without_a_published_checksum_is_read(tmp_path: Path) -> None:
    synthetic.write_csv(tmp_path / "ml", synthetic.interactions(5, 10, 6))
    synthetic.write_zip(tmp_path / "ml-latest-small.zip", tmp_path / "ml")
    source = ingest(DataSettings(source="ml-latest-small", cache_dir=tmp_path))
    assert source.name == "ml-latest-small" and len(source.tables.interactions) == 30


def test_a_truncated_cached_zip_is_refused(tmp_path: Path) -> None:
    synthetic.write_csv(tmp_path / "ml", synthetic.interactions(5, 10, 6))
    archive = synthetic.write_zip(tmp_path / "ml-latest-small.zip", tmp_path / "ml")
    archive.write_bytes(archive.read_bytes()[:300])
    with pytest.raises(SourceError, match=r"ml-latest-small\.zip is damaged or truncated .*Delete it"):
        ingest(DataSettings(source="ml-latest-small", cache_dir=tmp_path))


def test_recbole_without_its_data_is_not_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("recbole", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path / "recbole"))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(SourceError, match=r"data\.local_path"):
        ingest(DataSettings(cache_dir=tmp_path, mirror_url="http://127.0.0.1:9", retries=0, timeout_s=2))


def test_without_the_shipped_copy_ml_100k_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    settings = DataSettings(cache_dir=tmp_path, mirror_url="http://127.0.0.1:9", retries=0, timeout_s=2)
    with pytest.raises(SourceError, match=r"data\.local_path.*data\.mirror_url"):
        ingest(settings)
