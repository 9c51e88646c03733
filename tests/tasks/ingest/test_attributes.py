from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import SettingsError
from configs.settings import DataSettings
from tasks.ingest import described, public, read_descriptions, seeded
from tasks.ingest.attributes import typed
from tasks.ingest.table_reading import table_readings
from tests.tasks.landed import NAME, Place, events

LATEST = 2_000_000_000
CELLS = st.sampled_from([None, "7", "8.50", "red", "007"])
ROWS = st.lists(st.tuples(st.integers(1, 3), CELLS, CELLS), max_size=6)


def frame(rows: list[tuple[int, str | None, str | None]], time: int) -> pd.DataFrame:
    """The descriptions of one file, with the attributes price and brand."""
    found = pd.DataFrame(rows, columns=["item_id", "price", "brand"]).astype(
        {"item_id": "int64", "price": "string", "brand": "string"}
    )
    found = found.assign(title="", year=pd.array([pd.NA] * len(found), dtype="Int64"), genres="")
    found = found.astype({"title": "string", "genres": "string"})
    for name in ("title", "year", "genres", "price", "brand"):
        said = found[name].notna() & (name in ("price", "brand"))
        found = found.assign(**{f"{name}_at": np.where(said, time, -2), f"{name}_from": np.int64(0)})
    return found


@pytest.mark.full
@given(files=st.lists(ROWS, min_size=1, max_size=5), order=st.randoms(use_true_random=False))
def test_neither_the_order_of_files_nor_their_number_decides_values_and_types(files, order) -> None:
    frames = [frame(rows, 100 + number) for number, rows in enumerate(files)]
    empty = seeded("items", None, np.array([1], dtype=np.int64))
    at_once, _ = described("items", empty, pd.concat(frames, ignore_index=True), LATEST)
    order.shuffle(frames)
    one_by_one = reduce(lambda table, each: described("items", table, each, LATEST)[0], frames, empty)
    assert_frame_equal(public("items", one_by_one), public("items", at_once))
    newest: dict[int, str] = {}
    for rows in files:
        same = {}
        for item, price, _ in rows:
            if price is not None:
                same[item] = max(same.get(item, ""), price)  # of one second, the greater one
        newest |= same
    found = public("items", at_once)
    assert list(found) == ["item_id", "title", "year", "genres", "brand", "price"]
    stored = {item: str(price) for item, price in zip(at_once["item_id"], at_once["price"], strict=True) if not pd.isna(price)}
    assert stored == newest


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", None, "2.5"], "Float64", [1.0, None, 2.5]),
        (["1", "2e3", "-0.5"], "Float64", [1.0, 2000.0, -0.5]),
        (["1", "red"], "string", ["1", "red"]),
        (["007", "8"], "string", ["007", "8"]),
        (["inf", "1"], "string", ["inf", "1"]),
        ([None, None], "string", [None, None]),
    ],
)
def test_an_attribute_is_a_number_if_all_its_values_are(cells: list[str | None], kind: str, values: list[object]) -> None:
    found = typed(pd.Series(cells, dtype="string"))
    assert str(found.dtype) == kind and [None if pd.isna(cell) else cell for cell in found] == values


def test_a_release_keeps_its_attributes_when_files_land_on_it(tmp_path: Path) -> None:
    data = DataSettings.model_validate({"columns_items": {"item": "sku", "title": "name", "attributes": ["price"]}})
    path = tmp_path / "items.csv"
    path.write_text("sku,name,price\n1,Hat,9.90\n2,Cap,\n")
    provided = read_descriptions(path, "items", 50, LATEST, table_readings(data)).frame
    first, _ = described("items", seeded("items", None, np.array([1, 2, 3])), provided, LATEST)
    base = seeded("items", public("items", first), np.array([1, 2, 3, 4]))
    assert public("items", base)["price"].tolist()[:1] == [9.9] and public("items", base)["price"].isna().tolist() == [
        False,
        *[True] * 3,
    ]
    assert public("items", first)["title"].tolist() == ["Hat", "Cap", ""]


@pytest.mark.parametrize("names", [("price", "price_at"), ("price_from", "price")])
def test_an_attribute_never_takes_the_place_of_what_the_dataset_stores_of_an_earlier_one(
    names: tuple[str, str], tmp_path: Path
) -> None:
    place = Place(tmp_path)
    place.put("events.csv", events((1, 10, 4.0, 5)))
    for name in names:
        place.data = DataSettings.model_validate({"dataset": NAME, "columns_items": {"attributes": [name]}})
        place.put(f"{name}.csv", f"item_id,{name}\n10,9\n")
        if name == names[0]:
            place.land()
    with pytest.raises(SettingsError, match=r"attributes price and price_(at|from) cannot be in one dataset"):
        place.land()
