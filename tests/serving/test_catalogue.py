"""What serving learns from a version about its items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.errors import VersionCorruptError
from configs.settings import PopularitySettings
from models.popularity import Popularity
from serving.catalogue import Catalogue
from tasks.evaluation.catalogue import write_catalogue
from tests import synthetic
from tests.tasks.stored import small_split


def folder_with_catalogue(folder: Path) -> Path:
    parts = small_split()
    model = Popularity(PopularitySettings())
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    model.save(folder)
    items = synthetic.movies(pd.DataFrame({"item_id": parts.catalogue[1:]}))
    items["year"] = pd.array([1990, None] * len(items), dtype="Int64")[: len(items)]
    write_catalogue(folder, parts.catalogue, items, parts.train)
    return folder


def test_the_catalogue_is_read_in_the_order_of_the_models_scores(tmp_path: Path) -> None:
    parts = small_split()
    found = Catalogue.load(folder_with_catalogue(tmp_path))
    assert np.array_equal(found.item_ids, parts.catalogue) and len(found) == len(parts.catalogue)
    assert found.popularity.sum() == len(parts.train.item_ids)
    last = int(parts.catalogue[-1])
    index = found.index_of(last)
    assert index == len(found) - 1 and found.titles[index] == f"Film {last}, The (19{last % 90 + 10})"
    assert found.genres == ("Action", "Comedy", "Drama", "Thriller")
    assert found.genres_of(index) == sorted(["Action|Comedy", "Drama", "Comedy", "Thriller|Drama"][last % 4].split("|"))
    assert found.index_of(-5) is None


def test_an_item_without_a_description_has_no_title_year_or_genres(tmp_path: Path) -> None:
    found = Catalogue.load(folder_with_catalogue(tmp_path))
    assert found.titles[0] == "" and found.years[0] == 0 and found.genres_of(0) == []
    assert set(found.years[1:]) == {0, 1990}


def test_a_version_without_the_file_has_ids_and_popularity_only(tmp_path: Path) -> None:
    (folder_with_catalogue(tmp_path) / "catalogue.parquet").unlink()
    found = Catalogue.load(tmp_path)
    assert len(found) == len(small_split().catalogue) and found.genres == () and set(found.titles) == {""}


def test_a_catalogue_of_other_items_or_in_another_format_is_refused(tmp_path: Path) -> None:
    path = folder_with_catalogue(tmp_path) / "catalogue.parquet"
    frame = pd.read_parquet(path)
    frame.iloc[::-1].to_parquet(path)
    with pytest.raises(VersionCorruptError, match="differ from the version's vocabulary"):
        Catalogue.load(tmp_path)
    frame.drop(columns="title").to_parquet(path)
    with pytest.raises(VersionCorruptError, match="title"):
        Catalogue.load(tmp_path)
    path.write_bytes(b"no parquet")
    with pytest.raises(VersionCorruptError, match=r"catalogue\.parquet"):
        Catalogue.load(tmp_path)


def test_columns_of_another_length_are_refused() -> None:
    ids = np.arange(3)
    with pytest.raises(ValueError, match="titles"):
        Catalogue(ids, ["a"], ids, np.zeros((3, 0), bool), (), ids.astype(float))
    with pytest.raises(ValueError, match="genre_bits"):
        Catalogue(ids, ["a"] * 3, ids, np.zeros((3, 2), bool), ("Drama",), ids.astype(float))
