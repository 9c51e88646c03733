from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import VersionCorruptError
from infra.storage.local import LocalStore
from models.columns import Columns
from tasks.datasets import LANDED, EventDigest, LandedState, Layout, PartFiles, PartStore, StoredFile, merged_events, part_schema
from tasks.datasets.part_events import insertion_points
from tasks.landing.merge import compare
from tasks.tables import PLAIN, ParquetWriter
from tests.tasks.landed import events, random_events

NOTHING = StoredFile("none", "none", 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("store"))


def one_part(store: LocalStore, frame: pd.DataFrame, origin: int = 1) -> Layout:
    path = store.folder.with_name("part.parquet")
    columns = {name: frame[name].to_numpy() for name in frame} | {"origin": np.full(len(frame), origin, dtype=np.int64)}
    with ParquetWriter(path, part_schema(PLAIN), extent_of=Columns.TIME) as writer:
        writer.write({**columns, "row": np.full(len(frame), LANDED, dtype=np.int64)})
    return Layout((PartStore(store, "x", 1).part(writer),), NOTHING, NOTHING, 0, EventDigest.of(frame))


def distinct(frame: pd.DataFrame) -> pd.DataFrame:
    kept = frame.drop_duplicates(["user_id", "item_id"])
    return kept.sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)


@pytest.mark.full
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1, 10**7, 2**40]), rows=st.integers(1, 60), later=st.booleans())
def test_the_winning_and_the_superseded_events_are_those_that_a_plain_loop_finds(
    store: LocalStore, seed: int, factor: int, rows: int, later: bool
) -> None:
    own, new = (distinct(random_events(seed + part, rows, users=9, movies=9, seconds=4)) for part in (0, 1))
    own, new = (frame.assign(user_id=frame["user_id"] * factor, item_id=frame["item_id"] * factor) for frame in (own, new))
    delivered = {1: 10, 2: 10 + later}
    found = compare(
        PartFiles(store),
        one_part(store, own),
        new.assign(origin=2),
        lambda origins: np.array([delivered[each] for each in origins]),
    )
    old = {(row.user_id, row.item_id): (row.timestamp, row.rating, place) for place, row in enumerate(own.itertuples())}
    removed = []
    for place, row in enumerate(new.itertuples()):
        before = old.get((row.user_id, row.item_id))
        tied = before is not None and row.timestamp == before[0] and row.rating != before[1]
        wins = before is None or (row.timestamp, row.rating) > before[:2] or (tied and later)
        assert found.wins[place] == wins and found.corrects[place] == (wins and before is not None)
        if wins and before is not None:
            removed.append(before[2])
    assert sorted(removed) == (sorted(found.removals["position"]) if len(found.removals) else [])
    stays = own.drop(index=removed)
    assert found.first == (LandedState.NEVER if stays.empty else stays["timestamp"].min())
    assert found.removed == EventDigest.of(own.iloc[removed])


@given(seed=st.integers(0, 10**6))
def test_rows_are_inserted_where_sorting_would_put_them(seed: int) -> None:
    frame = distinct(random_events(seed, 50, users=5, movies=20, seconds=5))
    chosen = np.random.default_rng(seed).random(len(frame)) < 0.3
    table, added = ({name: part[name].to_numpy() for name in part} for part in (frame[~chosen], frame[chosen]))
    merged = np.insert(table["item_id"], insertion_points(table, added), added["item_id"])
    assert np.array_equal(merged, frame["item_id"])


def test_a_layout_that_does_not_match_its_rows_is_noticed(store: LocalStore) -> None:
    layout = one_part(store, events((1, 1, 3, 5), (2, 1, 3, 5)))
    part = layout.parts[0]
    more = replace(layout, parts=(replace(part, events=replace(part.events, rows=3)),))
    with pytest.raises(VersionCorruptError, match="hold 2 events, but its manifest records 3"):
        merged_events(PartFiles(store), more)
    with pytest.raises(VersionCorruptError, match="layout of a dataset version is damaged"):
        Layout.from_dict({"parts": [{}]})


def test_objects_on_another_machine_are_fetched_once(store: LocalStore, tmp_path: Path) -> None:
    fetched = []

    class Remote(LocalStore):
        def local_file(self, key: str) -> Path | None:
            return None

        def fetch(self, key: str, path: Path) -> None:
            fetched.append(key)
            super().fetch(key, path)

    layout = one_part(store, events((1, 1, 3, 5)))
    remote = Remote(store.folder)
    for _ in range(2):
        assert len(merged_events(PartFiles(remote, tmp_path / "cache"), layout)) == 1
    assert len(fetched) == 1 and len(merged_events(PartFiles(remote), layout)) == 1
    cached = next((tmp_path / "cache").iterdir())
    cached.write_bytes(b"damaged")
    assert len(merged_events(PartFiles(remote, tmp_path / "cache"), layout)) == 1 and len(fetched) == 2
