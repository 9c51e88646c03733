from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.tables import IdCollector, id_digests

IDS = st.lists(st.lists(st.text(max_size=3), max_size=8), max_size=5)


def weak_numbers(texts: list[str]) -> list[int]:
    """Hash texts to few numbers, so that some have the same one."""
    return [sum(text.encode()) % 11 for text in texts]


def table(texts: list[str], numbers: list[int] | None = None) -> pa.Table:
    return pa.table(
        {
            "number": pa.array(weak_numbers(texts) if numbers is None else numbers, pa.int64()),
            "text": pa.array(texts, pa.string()),
        }
    )


@given(chunks=IDS, memory_rows=st.integers(1, 9), order=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_order_of_chunks_gives_the_same_map_once_refused_texts_are_left_out(
    chunks: list[list[str]], memory_rows: int, order, tmp_path_factory
) -> None:
    refused: set[str] = set()
    plain: dict[int, str] = {}
    for text in (text for chunk in chunks for text in chunk):
        number = weak_numbers([text])[0]
        plain[number] = min(plain.get(number, text), text)
    order.shuffle(chunks)
    while True:  # each pass finds at least one more text, as a delivery that is read again
        folder = tmp_path_factory.mktemp("ids")
        ids = IdCollector("user_id", folder)
        for chunk in chunks:
            ids.add(table([text for text in chunk if text not in refused]))
        if not ids.refused:
            break
        refused |= ids.refused
    ids.write(folder / "map.parquet", np.arange(11), memory_rows=memory_rows)
    found = pq.read_table(folder / "map.parquet")
    assert dict(zip(found.column("user_id").to_pylist(), found.column("external_id").to_pylist(), strict=True)) == plain
    assert found.column("user_id").to_pylist() == sorted(plain) and len(ids) == len(plain)


def test_only_wanted_ids_are_written(tmp_path: Path) -> None:
    ids = IdCollector("item_id", tmp_path)
    ids.add(table(["a", "b", "c"], [3, 1, 2]))
    ids.write(tmp_path / "map.parquet", np.array([2, 3, 9]), memory_rows=10)
    assert pq.read_table(tmp_path / "map.parquet").to_pydict() == {"item_id": [2, 3], "external_id": ["c", "a"]}


def test_a_text_of_the_dataset_keeps_its_number(tmp_path: Path) -> None:
    ids = IdCollector("user_id", tmp_path)
    ids.add(table(["ann", "bob"], [1, 2]))
    known = ids.compare(np.array([2, 7]), pa.array(["zed", "ann"]))
    assert known.tolist() == [True, False] and ids.refused == {"bob"}


@given(stored=st.integers(-1, 3), chunks=st.lists(st.permutations("abcd"), min_size=1, max_size=4), cut=st.integers(1, 4))
def test_of_texts_with_one_number_the_stored_one_stays_or_else_the_least_in_any_order_of_chunks(
    stored: int, chunks: list[list[str]], cut: int, tmp_path_factory
) -> None:
    kept = "abcd"[stored] if stored >= 0 else min(text for chunk in chunks for text in chunk[:cut])
    ids = IdCollector("user_id", tmp_path_factory.mktemp("ids"))
    for chunk in chunks:
        ids.add(table(chunk[:cut], [5] * cut))
    ids.compare(np.array([4, 5] if stored >= 0 else [4], dtype=np.int64), pa.array(["x", kept] if stored >= 0 else ["x"]))
    assert ids.refused == {text for chunk in chunks for text in chunk[:cut]} - {kept}


def test_the_digest_of_a_pair_depends_on_both_and_is_the_same_in_every_process() -> None:
    numbers, texts = np.array([1, 2, 1], dtype=np.int64), pa.array(["a", "a", "b"])
    found = id_digests(numbers, texts)
    assert len(set(found.tolist())) == 3
    assert found.tolist() == id_digests(numbers, pa.chunked_array([texts])).tolist()
