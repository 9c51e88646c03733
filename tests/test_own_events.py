"""The invented events of three teams: small, repeatable, and worth learning."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tests.own_events import SHAPES, Shape, deliveries, put, write


def read(name: str, content: bytes) -> pd.DataFrame:
    if name.endswith(".parquet"):
        return pd.read_parquet(io.BytesIO(content))
    return pd.read_csv(io.BytesIO(gzip.decompress(content) if name.endswith(".gz") else content))


def event_files(shape: Shape, files: dict[str, bytes]) -> list[pd.DataFrame]:
    return [read(name, content) for name, content in files.items() if "-items" not in name and "-users" not in name]


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]()


def test_a_shape_is_the_same_each_time_and_small(shape: Shape, tmp_path: Path) -> None:
    assert 4000 < len(shape.events) < 7000 and shape.seconds.is_monotonic_increasing
    again = SHAPES[shape.name]()
    assert write(shape, tmp_path / "a").read_bytes() == write(again, tmp_path / "b").read_bytes()


def test_the_next_item_can_be_learnt_and_popularity_does_not_know_it(shape: Shape) -> None:
    frame = pd.DataFrame(
        {"user": shape.events[shape.user], "item": pd.factorize(shape.events[shape.item])[0], "time": shape.seconds}
    )
    frame = frame.sort_values(["user", "time"], kind="stable")
    frame["next"] = frame.groupby("user")["item"].shift(-1)
    pairs = frame.dropna()
    test = pairs.groupby("user").tail(1)
    train = pairs.drop(test.index)
    follows = train.groupby("item")["next"].agg(lambda found: found.value_counts().index[:10].tolist())
    hits = [target in follows.get(item, []) for item, target in zip(test["item"], test["next"], strict=True)]
    popular = set(train["next"].value_counts().index[:10])
    assert sum(hits) / len(hits) > 0.5 > 2 * test["next"].isin(popular).mean()


def test_five_deliveries_contain_each_event_and_repeat_some(shape: Shape, tmp_path: Path) -> None:
    found = deliveries(shape)
    assert len(found) == 5 and found == deliveries(SHAPES[shape.name]())
    files = [frame for delivery in found for frame in event_files(shape, delivery)]
    rows = pd.concat(files, ignore_index=True)
    assert len(rows) > len(shape.events) + 500
    (whole,) = event_files(shape, {shape.name + shape.suffix: write(shape, tmp_path, tables=False).read_bytes()})
    columns = list(whole.columns)
    unique = [frame.drop_duplicates().sort_values(columns, ignore_index=True) for frame in (rows, whole)]
    assert_frame_equal(*unique)
    assert sorted(path.name for path in put(found[2], tmp_path / "zone")) == sorted(found[2])
