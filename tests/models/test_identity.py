"""The numbers of text ids: the same in every process, whatever holds the texts."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from models.identity import number_of, numbers_of

TEXTS = st.lists(st.text(max_size=20), max_size=30)


def test_a_number_never_changes_because_datasets_store_it() -> None:
    known = {"cust/00042": 9015848947170616196, "müller": 3193581420571196806, "007": 924983014279861064}
    assert {text: number_of(text) for text in known} == known


@given(TEXTS)
def test_many_numbers_at_once_are_those_of_one_at_a_time(texts: list[str]) -> None:
    expected = [number_of(text) for text in texts]
    plain = pa.array(texts, pa.string())
    for held in (
        texts,
        plain,
        plain.cast(pa.large_string()),
        plain.dictionary_encode(),
        pa.chunked_array([plain, plain[:2]])[: len(texts)],
    ):
        assert numbers_of(held).tolist() == expected and numbers_of(held).dtype == "int64"
    assert all(0 <= number < 2**63 for number in expected)


def test_texts_that_differ_in_a_byte_have_different_numbers() -> None:
    texts = ["7", "07", "A", "a", "é", "e\u0301", "a ", "a"]
    assert len(set(numbers_of(texts).tolist())) == 7
