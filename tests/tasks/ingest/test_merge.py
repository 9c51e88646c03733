from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import Columns
from tasks.ingest import merge_interactions
from tasks.ingest.merge import deduplicate_latest
from tasks.tables import DatasetProperties, sorted_order

EVENT = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 10), st.integers(10**9, 10**9 + 3))
FILES = st.lists(st.lists(EVENT, max_size=12), max_size=4)
WRITTEN = {0: 20, 1: 10, 2: 20, 3: 10}
IDENTITY = ["user_id", "item_id", "rating", "timestamp"]


def part(rows: list[tuple[int, int, int, int]], file: int) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=IDENTITY).astype(np.int64).astype({"rating": np.float64})
    return frame.assign(row=np.arange(len(frame)), file=np.int64(file))[list(Columns.FILE_EVENT)]


def written(folder: Path, frames: list[pd.DataFrame]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames):
        frame.to_parquet(folder / f"{number}.parquet", index=False)
    return [folder / f"{number}.parquet" for number in range(len(frames))]


def plain(files: list[list[tuple[int, int, int, int]]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Find (time, rating) of each user and movie, one event after the other. WRITTEN has the times of the files."""
    best: dict[tuple[int, int], tuple[int, int, int]] = {}
    for number, rows in enumerate(files):
        for user, movie, rating, time in rows:
            event = (time, WRITTEN[number], rating)
            best[user, movie] = max(best.get((user, movie), event), event)
    return {pair: (time, rating) for pair, (time, _, rating) in best.items()}


@pytest.mark.full
@given(files=FILES, memory_rows=st.integers(1, 20), order=st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_any_order_of_files_and_any_memory_give_the_plain_result(
    files: list[list[tuple[int, int, int, int]]], memory_rows: int, order, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    frames = [part(rows, number) for number, rows in enumerate(files)]
    order.shuffle(frames)
    report = merge_interactions(
        written(folder / "parts", frames),
        folder / "out.parquet",
        memory_rows=memory_rows,
        superseded=folder / "lost.parquet",
        written=WRITTEN,
    )
    kept, lost = pd.read_parquet(folder / "out.parquet"), pd.read_parquet(folder / "lost.parquet")
    found = {(int(r.user_id), int(r.item_id)): (int(r.timestamp), int(r.rating)) for r in kept.itertuples()}
    assert found == plain(files) and len(found) == len(kept) == report.rows
    assert kept.equals(kept.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True))
    assert report.rows + report.duplicates == sum(map(len, files)) == len(kept) + len(lost)
    together = pd.concat([kept, lost])
    assert set(map(tuple, together[["file", "row"]].to_numpy())) == {
        (n, r) for n, rows in enumerate(files) for r in range(len(rows))
    }
    assert report.duplicates_of_file == lost["file"].value_counts().to_dict()
    assert sorted(path.name for path in folder.iterdir()) == ["lost.parquet", "out.parquet", "parts"]


KEPT = DatasetProperties(repeats="keep", weights=True)


@given(files=FILES, memory_rows=st.integers(1, 20), order=st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_kept_repeats_give_one_event_for_each_second_whatever_the_order(
    files: list[list[tuple[int, int, int, int]]], memory_rows: int, order, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    frames = [
        part(rows, number).assign(weight=lambda frame: frame["rating"] / 8, rating=1.0) for number, rows in enumerate(files)
    ]
    order.shuffle(frames)
    report = merge_interactions(
        written(folder / "parts", frames),
        folder / "out.parquet",
        memory_rows=memory_rows,
        superseded=folder / "lost.parquet",
        written=WRITTEN,
        properties=KEPT,
    )
    kept, lost = pd.read_parquet(folder / "out.parquet"), pd.read_parquet(folder / "lost.parquet")
    best: dict[tuple[int, int, int], tuple[int, float]] = {}
    for number, rows in enumerate(files):
        for user, movie, weight, time in rows:
            event = (WRITTEN[number], weight / 8)
            best[user, time, movie] = max(best.get((user, time, movie), event), event)
    found = {(int(r.user_id), int(r.timestamp), int(r.item_id)): float(r.weight) for r in kept.itertuples()}
    assert found == {key: weight for key, (_, weight) in best.items()} and len(kept) == len(found) == report.rows
    assert list(found) == sorted(found) and list(kept) == list(KEPT.with_weight(Columns.FILE_EVENT))
    assert len(kept) + len(lost) == sum(map(len, files))


@pytest.mark.parametrize("rows", [[9, 2], [2, 9]])
def test_the_content_decides_between_events_of_one_second_and_the_first_file_keeps_equal_ones(
    rows: list[int],
) -> None:
    first = part([(1, 1, rating, 10**9) for rating in rows], 0)
    kept, lost = deduplicate_latest(pd.concat([part([(1, 1, 9, 10**9)], 1), first]))
    assert kept[["rating", "row", "file"]].to_numpy().tolist() == [[9.0, rows.index(9), 0]] and len(lost) == 2


def test_a_later_delivery_corrects_a_rating_of_the_same_second() -> None:
    both = pd.concat([part([(1, 1, 5, 10**9)], 0), part([(1, 1, 2, 10**9)], 1)])
    assert deduplicate_latest(both, {0: 10, 1: 11})[0]["rating"].tolist() == [2.0]
    assert deduplicate_latest(both, {0: 10, 1: 10})[0]["rating"].tolist() == [5.0]


@given(st.lists(st.tuples(*[st.integers(0, 3), st.sampled_from([0, 5, 2**40, -(2**40)]), st.integers(0, 2**20)]), max_size=30))
def test_packed_and_unpacked_keys_sort_alike(rows: list[tuple[int, int, int]]) -> None:
    keys = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)] or [np.empty(0, dtype=np.int64)] * 3
    order = sorted_order(*keys)
    assert [rows[place] for place in order] == sorted(rows)
