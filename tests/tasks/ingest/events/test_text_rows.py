"""Rows with text ids are judged one by one: what is beside them changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import SourceError
from configs.settings import DataSettings, ValidationSettings
from models.columns import Columns
from tasks.ingest import open_event_file, reading_for, resolved_properties

DATA = DataSettings.model_validate(
    {
        "id_type": {"user": "text", "item": "text"},
        "feedback": "implicit",
        "columns": {"weight": "kind"},
        "weights": {"view": 1, "bot": 0},
    }
)
CELL = st.sampled_from(
    ["1", "007", "x", " x", "x ", "", "NA", " NA ", "0x1F", "a b", "é", "e\u0301", "a\x07", "\u2028", "\ufeff", "x" * 501, '"6"', '"', '"7', '8"', '"9"1', '""', 'a"b', '"1,2"', '""a', '"a""b"', "\t"]
)  # fmt: skip
TIME = st.sampled_from(
    ["2024-05-01T10:00:00Z", "2024-05-01 10:00:00+02:00", "2024-05-01", "2024-02-30T10:00:00Z", "2024-05-01T10:00:00.5Z", "1714557600", "", "x", '"2024-05-01T10:00:00Z"', " 2024-05-01T10:00:00Z", "2024-05-01T10:00:60Z", "20240501T100000Z", "9999-12-31T00:00:00Z", "1024-01-01T00:00:00Z"]
)  # fmt: skip
KIND = st.sampled_from(["view", " view", "bot", "VIEW", "", "gift", '"view"'])
Row = tuple[str, ...]


def judged(folder: Path, rows: list[str]) -> dict[int, tuple[object, ...]]:
    """Return each row by its number: its ids with their texts, time and weight, or what is wrong with it."""
    path = folder / "events.csv"
    path.write_text("user_id,item_id,timestamp,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    reading = reading_for(DATA, resolved_properties(DATA, [path]))
    found: dict[int, tuple[object, ...]] = {}
    for chunk in open_event_file(path, ValidationSettings(), 2_000_000_000, reading=reading).chunks():
        texts = {name: dict(zip(*table.to_pydict().values(), strict=True)) for name, table in chunk.ids.items()}
        for row in chunk.accepted.to_dict("records"):
            user, item = (texts[name][row[name]] for name in (Columns.USER, Columns.ITEM))
            found[row["row"]] = (user, item, row["timestamp"], row["weight"])
        for row in chunk.quarantined.to_dict("records"):
            found[row["row"]] = (row["reasons"],)
        assert len(found) + chunk.left_out == chunk.rows
    return found


@pytest.mark.full
@given(rows=st.lists(st.tuples(CELL, CELL, TIME, KIND), min_size=1, max_size=5), quoted=st.booleans())
def test_a_row_with_text_ids_is_judged_the_same_whatever_its_neighbours_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], quoted: bool
) -> None:
    """The fast and the tolerant parser agree."""
    folder = tmp_path_factory.mktemp("rows")
    good = '"u",i,2024-05-01T10:00:00Z,view' if quoted else "u,i,2024-05-01T10:00:00Z,view"
    texts = [",".join(row) for row in rows]
    together = judged(folder, [good, *texts, good, good, good, good, good])
    for number, text in enumerate(texts, 1):
        try:
            alone = judged(folder, [good, text, good, good])
        except SourceError:  # no row of the file has four cells
            continue
        assert alone.get(1) == together.get(number), text
