"""A team's own events in a landing zone: text ids, repeats, weights and attributes, in one delivery and in five."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import DataRefusedError, SettingsError, VersionCorruptError
from configs.settings import DataSettings
from models.identity import number_of, numbers_of
from tasks.datasets import (
    DatasetRef,
    FileAccount,
    Removal,
    external_ids,
    plan_prune,
    prune_versions,
    read_manifest,
    verify_dataset,
    write_dataset,
)
from tasks.ingest import building, locate
from tasks.landing import remove, undo_removal
from tests import own_events
from tests.own_events import Shape
from tests.tasks.landed import LAX, NAME, SETTLED, Place, by_file, content

LATER = 1_780_000_000.0
SMALL: dict[str, Shape] = {
    "shop": own_events.shop(users=40, items=30),
    "music": own_events.music(users=40, tracks=30),
    "news": own_events.news(users=60, articles=60),
}
TABLES = ("interactions", "items", "users", "features", "user_ids", "item_ids")


def place_of(folder: Path, shape: Shape, **data: Any) -> Place:
    place = Place(folder)
    place.data = DataSettings.model_validate({"dataset": NAME, **shape.data, **shape.tables, **data})
    return place


def deliver(place: Place, files: dict[str, bytes], number: int = 0) -> None:
    for name, cells in files.items():
        place.put(name, cells, modified=SETTLED + number)


def tables(place: Place, ref: DatasetRef) -> dict[str, pd.DataFrame]:
    found = {}
    for table in TABLES:
        if not table.endswith("_ids") or table.removesuffix("s") in ref.properties.text_columns:
            found[table] = place.table(ref, table)
    return found


def totals(accounts: list[FileAccount]) -> dict[str, int]:
    """The counts that do not depend on the order of deliveries: a newer event may correct an older one that came first."""
    read = [each for each in accounts if each.status != "copy"]
    summed = {name: sum(getattr(each, name) for each in read) for name in ("rows", "quarantined", "removed", "left_out")}
    kept = sum(each.accepted - each.corrections for each in read if each.kind == "events")
    new = {name: sum(getattr(each, name) for each in read) for name in ("new_users", "new_items")}
    return {**summed, **new, "kept": kept}


@pytest.fixture(scope="module", params=list(SMALL))
def at_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shape, Place, DatasetRef, dict[str, int]]:
    shape = SMALL[request.param]
    place = place_of(tmp_path_factory.mktemp("at-once"), shape)
    for number, files in enumerate(own_events.deliveries(shape)):
        deliver(place, files, number)
    landed = place.land(now=LATER)
    return shape, place, landed.dataset, totals(list(landed.accounts))


def test_one_delivery_has_the_teams_events_ids_and_attributes(at_once: tuple[Shape, Place, DatasetRef, dict[str, int]]) -> None:
    shape, place, ref, counts = at_once
    verify_dataset(place.store, ref)
    events = place.table(ref)
    plain = pd.DataFrame(
        {"user": shape.events[shape.user].astype(str), "item": shape.events[shape.item].astype(str), "time": shape.seconds}
    )
    key = ["user", "item", "time"] if ref.properties.keeps_repeats else ["user", "item"]
    newest = plain.sort_values("time").drop_duplicates(key, keep="last")
    found = pd.DataFrame({"time": events["timestamp"]})
    for column, name in (("user_id", "user"), ("item_id", "item")):
        texts = external_ids(place.store, ref, column)
        found[name] = events[column].astype(str) if texts is None else texts.reindex(events[column]).to_numpy()
        if texts is not None:
            assert texts.index.is_monotonic_increasing and texts.index.is_unique
            assert [number_of(text) for text in texts] == texts.index.tolist()
    assert sorted(map(tuple, found[["user", "item", "time"]].to_numpy())) == sorted(map(tuple, newest.to_numpy()))
    assert counts["kept"] == len(events) == ref.rows and counts["quarantined"] == 0
    assert ref.properties.feedback == "implicit" and (events["rating"] == 1).all()
    assert ("weight" in events) == ref.properties.weights == (shape.name == "shop")
    if shape.items is not None:
        described = place.table(ref, "items").set_index("item_id")
        own = shape.items.assign(number=numbers_of(pa.array(shape.items[shape.item]))).set_index("number")
        for attribute in shape.tables["columns_items"]["attributes"]:
            assert described.loc[own.index, attribute].tolist() == own[attribute].tolist()


@pytest.mark.full
@given(order=st.permutations(range(5)), compacted=st.sets(st.integers(0, 4)))
@settings(max_examples=3, deadline=None)
def test_five_deliveries_in_any_order_give_the_same_as_one(
    at_once: tuple[Shape, Place, DatasetRef, dict[str, int]],
    tmp_path_factory: pytest.TempPathFactory,
    order: list[int],
    compacted: set[int],
) -> None:
    shape, whole, expected, counts = at_once
    place, accounts = place_of(tmp_path_factory.mktemp("five"), shape), []
    parts = own_events.deliveries(shape)
    for number in order:
        deliver(place, parts[number], number)
        landed = place.land(now=LATER)
        accounts += landed.accounts
        ref = landed.dataset
        if number in compacted:
            before, ref = ref, place.compact()
            assert content(before) == content(ref)
            assert all(
                len(each["files"]) <= 1
                for each in read_manifest(place.store, NAME, ref.version)["layout"].get("ids", {}).values()
            )
    assert content(ref) == content(expected) and totals(accounts) == counts
    verify_dataset(place.store, ref)
    for table, frame in tables(whole, expected).items():
        assert_frame_equal(place.table(ref, table), frame)
    prune_versions(place.store, plan_prune(place.store, 1))
    verify_dataset(place.store, ref)


def test_files_land_on_a_release_and_share_its_id_map(
    at_once: tuple[Shape, Place, DatasetRef, dict[str, int]], tmp_path: Path
) -> None:
    shape, whole, expected, _ = at_once
    place = place_of(tmp_path, shape)
    place.settings = place.settings.model_copy(update={"base": "newest"})
    parts = own_events.deliveries(shape)
    own_events.put(parts[0], tmp_path / "first")
    source = locate(place.data.model_copy(update={"local_path": tmp_path / "first"}))
    with building(source, LAX, place.engine, int(LATER)) as release:
        base = write_dataset(place.store, NAME, release, release.features, {})
    for number in range(1, 5):
        deliver(place, parts[number], number)
    ref = place.land(now=LATER).dataset
    for column, ids in read_manifest(place.store, NAME, ref.version)["layout"].get("ids", {}).items():
        assert ids["files"][0]["key"] == f"{base.prefix}/{column}s.parquet"
    assert content(ref) == content(expected) and ref.properties == base.properties
    compacted = place.compact()
    assert content(compacted) == content(ref)
    prune_versions(place.store, plan_prune(place.store, 1))
    verify_dataset(place.store, compacted)
    for table, frame in tables(whole, expected).items():
        if table != "interactions":  # a release numbers its rows by its source
            assert_frame_equal(place.table(compacted, table), frame)


def test_a_delivery_adds_its_new_ids_and_shares_the_others(tmp_path: Path) -> None:
    place = place_of(tmp_path, SMALL["shop"])
    parts = own_events.deliveries(SMALL["shop"])
    files = []
    for number, each in enumerate(parts[:3]):
        deliver(place, each, number)
        ref = place.land(now=LATER).dataset
        files.append(read_manifest(place.store, NAME, ref.version)["layout"]["ids"]["user_id"]["files"])
    assert [each[: len(before)] for before, each in itertools.pairwise(files)] == files[:-1]
    assert sum(each["rows"] for each in files[-1]) == ref.users == len(place.table(ref, "user_ids"))


def test_a_setting_that_contradicts_the_stored_dataset_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    shape = SMALL["shop"]
    parts = own_events.deliveries(shape)
    place = place_of(tmp_path, shape)
    deliver(place, parts[0])
    place.land(now=LATER)
    stored = sorted(place.store.list())
    deliver(place, parts[1], 1)
    for changed, message in (
        ({"repeats": "newest"}, r"data\.repeats is newest, but the dataset small was made with keep"),
        ({"id_type": {"user": "integer"}}, r"The column user_id holds integer ids, but those of the dataset small are text"),
        (
            {"weights": {}, "columns": {**shape.data["columns"], "weight": None}},
            r"data\.columns\.weight is empty, but the dataset small has",
        ),
    ):
        place.data = DataSettings.model_validate({"dataset": NAME, **shape.data, **shape.tables, **changed})
        with pytest.raises(SettingsError, match=message):
            place.land(now=LATER)
    assert sorted(place.store.list()) == stored


def test_of_two_ids_with_one_number_the_later_one_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def weak(texts: Any) -> np.ndarray:
        return np.array([len(text.as_py() or "") for text in texts], dtype=np.int64)

    monkeypatch.setattr("tasks.ingest.events.ids.numbers_of", weak)
    place = Place(tmp_path)
    place.data = DataSettings.model_validate(
        {"dataset": NAME, "feedback": "implicit", "id_type": {"user": "text", "item": "integer"}}
    )
    place.put("a.csv", "userId,movieId,timestamp\nbob,1,1000000000\nann,2,1000000001\nbo,1,1000000002\n")
    first = place.land()
    assert by_file(first)["a.csv"].reasons == {"user_id has the number of another id": 1}  # of one delivery, the least text stays
    assert place.table(first.dataset, "user_ids")["external_id"].tolist() == ["bo", "ann"]
    place.put("b.csv", "userId,movieId,timestamp\naaa,1,1000000003\nlong,2,1000000004\n")
    place.put("users.csv", "userId,gender\naaa,F\nann,M\n")
    second = place.land()
    assert by_file(second)["b.csv"].reasons == {"user_id has the number of another id": 1}
    assert by_file(second)["users.csv"].quarantined == 1
    assert place.table(second.dataset, "user_ids")["external_id"].tolist() == ["bo", "ann", "long"]
    assert place.table(second.dataset, "users")["gender"].fillna("").tolist() == ["", "M", ""]


def test_a_removed_user_leaves_no_text_and_comes_back_with_it(tmp_path: Path) -> None:
    shape = SMALL["news"]
    place = place_of(tmp_path, shape)
    for number, files in enumerate(own_events.deliveries(shape)):
        deliver(place, files, number)
    before = place.land(now=LATER).dataset
    text = str(shape.events[shape.user].iloc[0])
    removal = Removal("asked to be forgotten", "test", user=number_of(text))
    ref, entry = remove(place.store, NAME, removal, place.settings, place.engine.work_dir, LATER)
    verify_dataset(place.store, ref)
    left = external_ids(place.store, ref, "user_id")
    assert left is not None and text not in set(left) and len(left) == before.users - 1
    prune_versions(place.store, plan_prune(place.store, 1))
    kept = {key for key in place.store.list("datasets/") if "user_ids" in key}
    assert all(text not in read_ids(place, key) for key in kept)
    place.put("late.parquet", shape.events[shape.events[shape.user] == text].to_parquet(index=False))
    again = place.land(now=LATER).dataset
    assert external_ids(place.store, again, "user_id").tolist() == left.tolist()  # type: ignore[union-attr]
    undo_removal(place.store, NAME, Removal("", "test", undoes=entry.number), place.settings, place.engine.work_dir, LATER)
    (place.zone / "late.parquet").touch()
    back = place.land(now=LATER).dataset
    assert content(back) == content(before)
    assert text in set(external_ids(place.store, back, "user_id"))  # type: ignore[arg-type]


@pytest.mark.parametrize("good", ["left out", "removed", ""])
def test_a_delivery_is_refused_only_if_no_row_is_good_whether_or_not_the_good_ones_are_kept(good: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    data = {"columns": {"weight": "kind"}, "weights": {"view": 1, "bot": 0}, "feedback": "implicit"}
    place.data = DataSettings.model_validate({"dataset": NAME, **data})
    header = "user_id,item_id,timestamp,kind\n"
    place.put("first.csv", f"{header}1,1,1600000000,view\n2,1,1600000001,view\n")
    place.land(now=LATER)
    remove(place.store, NAME, Removal("test", "test", user=2), place.settings, place.engine.work_dir, LATER)
    row = {"left out": "1,2,1600000002,bot\n", "removed": "2,2,1600000002,view\n", "": ""}[good]
    place.put("next.csv", f"{header}{row}1,1,1600000003,gift\n")
    landed = place.land(now=LATER)
    assert [account.quarantined for account in landed.accounts] == [1]
    with contextlib.nullcontext() if good else pytest.raises(DataRefusedError, match="no row of the new file is good"):
        landed.refuse()


def read_ids(place: Place, key: str) -> set[str]:
    return set(pd.read_parquet(place.store.folder / key)["external_id"])


def test_an_id_map_that_was_replaced_together_with_the_manifest_is_noticed(tmp_path: Path) -> None:
    place, other = place_of(tmp_path / "a", SMALL["shop"]), place_of(tmp_path / "b", own_events.shop(users=20, items=20, seed=5))
    for each, shape in ((place, SMALL["shop"]), (other, own_events.shop(users=20, items=20, seed=5))):
        deliver(each, own_events.deliveries(shape)[0])
    ref, foreign = (each.land(now=LATER).dataset for each in (place, other))
    manifest = read_manifest(place.store, NAME, ref.version)
    manifest["layout"]["ids"]["user_id"] = read_manifest(other.store, NAME, foreign.version)["layout"]["ids"]["user_id"]
    for key in other.store.list(f"datasets/{NAME}/parts/"):
        place.store.put(key, other.store.get(key))
    place.store.put(f"{ref.prefix}/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(VersionCorruptError, match="do not match the version's name"):
        verify_dataset(place.store, ref)


def test_files_that_land_on_a_release_find_its_attributes_as_they_were_written(tmp_path: Path) -> None:
    events = "user_id,item_id,rating,timestamp\n" + "".join(f"{row % 7},{row % 5},3,{1_600_000_000 + row}\n" for row in range(60))
    first = "item_id,title,size,price\n0,A,1.10,9.5\n1,B,2.0,8\n2,C,10000000000000000,7.25\n"
    later = "item_id,title,size\n3,D,XL\n"
    found: list[pd.DataFrame] = []
    for base in ("none", "newest"):
        place = Place(tmp_path / base, base=base)
        place.data = DataSettings.model_validate({"dataset": NAME, "columns_items": {"attributes": ["size", "price"]}})
        if base == "none":
            place.put("events.csv", events)
            place.put("first.csv", first)
            alone = place.land().dataset
        else:
            folder = tmp_path / "release"
            folder.mkdir()
            (folder / "events.csv").write_text(events)
            (folder / "first.csv").write_text(first)
            source = locate(place.data.model_copy(update={"local_path": folder}))
            with building(source, LAX, place.engine, int(SETTLED)) as built:
                alone = write_dataset(place.store, NAME, built, built.features, {})
            verify_dataset(place.store, alone)
        assert place.table(alone, "items")["size"].dropna().tolist() == [1.1, 2.0, 1e16]
        place.put("later.csv", later, modified=SETTLED + 1)
        landing = place.land()
        found.append(place.table(landing.dataset, "items"))
        assert landing.dataset is not None and found[-1]["price"].dtype == "Float64"
    assert_frame_equal(*found)
    assert found[0]["size"].dropna().tolist() == ["1.10", "2.0", "10000000000000000", "XL"]
