"""A team's own events as a release: what is stored is the same in pieces, in memory, and in a landing zone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from configs.errors import SettingsError, VersionCorruptError
from configs.settings import DataSettings, EtlSettings, ValidationSettings
from infra.storage.local import LocalStore
from tasks.datasets import (
    DatasetRef,
    external_ids,
    list_datasets,
    read_manifest,
    read_table,
    stored_properties,
    verify_dataset,
    write_dataset,
)
from tasks.ingest import building, locate
from tasks.tables import DatasetProperties
from tests import own_events
from tests.own_events import Shape

NOW = 1_780_000_000
LAX = ValidationSettings(min_rows=1)
SMALL: dict[str, Shape] = {
    "shop": own_events.shop(users=40, items=30),
    "music": own_events.music(users=40, tracks=30),
    "news": own_events.news(users=60, articles=60),
}
SHOP = DatasetProperties("text", "text", "implicit", "keep", weights=True)


def stored(folder: Path, shape: Shape, rows: int = 1_000_000, **data: object) -> tuple[LocalStore, DatasetRef]:
    place = LocalStore(folder / "store")
    files = folder / "files"
    own_events.write(shape, files)
    settings = DataSettings.model_validate({"dataset": "own", "local_path": files, **shape.data, **shape.tables, **data})
    source = locate(settings, None, LAX, stored_properties(place, "own"))
    with building(source, LAX, EtlSettings(chunk_rows=rows, memory_rows=rows, work_dir=folder / "work"), NOW) as release:
        return place, write_dataset(place, "own", release, release.features, source.hashes())


@pytest.mark.full
@pytest.mark.parametrize("name", SMALL)
def test_pieces_of_any_size_give_the_same_version(name: str, tmp_path: Path) -> None:
    whole, ref = stored(tmp_path / "whole", SMALL[name])
    pieces, other = stored(tmp_path / "pieces", SMALL[name], rows=150)
    assert ref.version == other.version and ref.properties == other.properties
    verify_dataset(whole, ref)
    for table in ("interactions", "items", "users", "features", *(f"{column}s" for column in ref.properties.text_columns)):
        assert_frame_equal(read_table(whole, ref, table), read_table(pieces, other, table))
    for column in ("user_id", "item_id"):
        texts, ids = external_ids(whole, ref, column), read_table(whole, ref, f"{column[:4]}s")[column]
        assert (texts is None) == (column not in ref.properties.text_columns)
        assert texts is None or texts.index.tolist() == ids.tolist()


def test_the_manifest_has_the_properties_and_the_name_depends_on_them(tmp_path: Path) -> None:
    place, ref = stored(tmp_path, SMALL["shop"])
    manifest = read_manifest(place, "own", ref.version)
    assert ref.properties == stored_properties(place, "own") == SHOP
    assert (
        manifest["ids"] == {"user_id": "text", "item_id": "text"}
        and manifest["repeats"] == "keep"
        and manifest["weights"] is True
    )
    for changed in ({"feedback": "explicit"}, {"weights": False}, {"repeats": "newest"}):
        place.put(f"{ref.prefix}/manifest.json", json.dumps(manifest | changed).encode())
        with pytest.raises(VersionCorruptError, match="do not match the version's name"):
            verify_dataset(place, ref)


def test_a_changed_text_is_noticed(tmp_path: Path) -> None:
    place, ref = stored(tmp_path, SMALL["shop"])
    path = place.folder / ref.prefix / "user_ids.parquet"
    frame = pd.read_parquet(path)
    frame.assign(external_id=["someone else", *frame["external_id"].iloc[1:]]).to_parquet(path, index=False)
    with pytest.raises(VersionCorruptError, match=r"user_ids\.parquet differs from its manifest"):
        external_ids(place, ref, "user_id")


def test_a_later_release_with_other_properties_is_refused(tmp_path: Path) -> None:
    place, ref = stored(tmp_path, SMALL["shop"])
    with pytest.raises(SettingsError, match=r"data\.repeats is newest, but the dataset own was made with keep: set it to keep"):
        stored(tmp_path, SMALL["shop"], repeats="newest")
    assert [each.version for each in list_datasets(place)] == [ref.version]
