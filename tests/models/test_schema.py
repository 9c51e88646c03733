"""What a version says about its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import VersionCorruptError
from configs.settings import NounSettings
from models.schema import SCHEMA_FILE, DataSchema, IdTypes


def test_a_version_without_the_file_was_trained_on_movielens(tmp_path: Path) -> None:
    found = DataSchema.read(tmp_path)
    assert (
        found == DataSchema() and found.ids == IdTypes("integer", "integer") and found.nouns.items == "films" and found.hides_seen
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = DataSchema(
        IdTypes("text", "text"),
        "implicit",
        "keep",
        {"brand": "category", "price": "number"},
        NounSettings(item="product", items="products"),
    )
    made.write(tmp_path)
    assert DataSchema.read(tmp_path) == made and not made.hides_seen


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"ids": {"user_id": "colour"}}'])
def test_a_damaged_file_is_refused_and_named(tmp_path: Path, content: str) -> None:
    (tmp_path / SCHEMA_FILE).write_text(content)
    with pytest.raises(VersionCorruptError, match=r"(?s)schema\.json .*train again"):
        DataSchema.read(tmp_path)
