"""Which dataset version a person means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import ChampionMissingError, NotFoundError
from configs.settings import DataSettings, StoreSettings
from infra.storage import open_store
from tasks.datasets import chosen_dataset

OLD, NEW, COMPACTED = "0123456789ab-000000000000", "ffff456789ab-000000000000", "ffff456789ab-111111111111"


@pytest.fixture
def store(tmp_path: Path) -> StoreSettings:
    settings = StoreSettings(url=f"file:{tmp_path}")
    for created, version in enumerate((OLD, NEW, COMPACTED), 1):
        facts = dict.fromkeys(("rows", "users", "items", "first", "last"), 1)
        manifest = {**facts, "parents": [], "created": created, "format": 1}
        open_store(settings).put(f"datasets/ml-100k/{version}/manifest.json", json.dumps(manifest).encode())
    return settings


def test_a_version_is_found_by_its_beginning_and_by_its_place(store: StoreSettings) -> None:
    for asked, version in {
        None: COMPACTED,
        "latest": COMPACTED,
        "ml-100k/latest": COMPACTED,
        "previous": NEW,
        "ml-100k/0123": OLD,
        "0123456789ab": OLD,
        f"ml-100k/{NEW}": NEW,
        "ffff456789ab-1": COMPACTED,
    }.items():
        assert chosen_dataset(asked, DataSettings(), store).version == version, asked


def test_what_is_not_clear_is_refused_with_the_candidates_and_what_does_not_exist_with_the_next_command(
    store: StoreSettings,
) -> None:
    with pytest.raises(NotFoundError, match="ffff may be any of 2 versions: ffff456789ab-0000, ffff456789ab-1111"):
        chosen_dataset("ml-100k/ffff", DataSettings(), store)
    with pytest.raises(
        NotFoundError, match=r"There is no dataset ml-100k version 7 .* ffff456789ab-1111, .* `recsys data list` lists all"
    ):
        chosen_dataset("7", DataSettings(), store)
    with pytest.raises(NotFoundError, match=r"has no dataset version of shop\. Create one with `recsys etl`"):
        chosen_dataset(None, DataSettings(dataset="shop"), store)
    with pytest.raises(ChampionMissingError, match="movie-ranker has no champion yet"):
        chosen_dataset("champion", DataSettings(), store)
