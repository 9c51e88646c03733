"""Events of three shapes from a file, a folder, a zip and a landing zone: the same events, by the same settings."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import DataRefusedError, SettingsError
from configs.settings import DataSettings, EtlSettings, IdTypeSettings, ValidationSettings
from models.columns import Columns
from tasks.ingest import building, ingest, locate, validate
from tests import own_events
from tests.own_events import Shape
from tests.tasks.landed import LAX, Place

NOW = 2_000_000_000
FILMS = (("007", "Heat (1995)", 1995), ("8", "Two (1996)", 1996), ("9", "Alone (1997)", 1997))
SHAPES = pytest.mark.parametrize("name", own_events.SHAPES)


def settings(shape: Shape, **place: object) -> DataSettings:
    return DataSettings.model_validate({"dataset": shape.name, **shape.data, **shape.tables, **place})


def built(data: DataSettings, folder: Path, limits: ValidationSettings = LAX) -> pd.DataFrame:
    source = locate(data, None, limits)
    with building(source, limits, EtlSettings(work_dir=folder / "work", chunk_rows=900), NOW) as found:
        return pd.read_parquet(found.interactions)


def of_file(shape: Shape, folder: Path) -> pd.DataFrame:
    return built(settings(shape, local_path=own_events.write(shape, folder / "data", tables=False)), folder)


def of_folder(shape: Shape, folder: Path) -> pd.DataFrame:
    own_events.write(shape, folder / "data")
    return built(settings(shape, local_path=folder / "data"), folder)


def of_zip(shape: Shape, folder: Path) -> pd.DataFrame:
    own_events.write(shape, folder / "inside")
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for path in (folder / "inside").iterdir():
            archive.write(path, path.name)
    return built(settings(shape, local_path=folder / "data.zip", cache_dir=folder / "cache"), folder)


def of_zone(shape: Shape, folder: Path) -> pd.DataFrame:
    place = Place(folder / "landed", settle_s=0)
    place.data = settings(shape)
    own_events.write(shape, place.zone)
    landed = place.land(now=NOW)
    assert all(account.status == "accepted" for account in landed.accounts)
    return place.table(landed.dataset)


@SHAPES
@pytest.mark.parametrize("way", [of_folder, of_zip, of_zone])
def test_a_folder_a_zip_and_a_zone_give_the_events_of_the_file(
    name: str, way: Callable[[Shape, Path], pd.DataFrame], tmp_path: Path
) -> None:
    shape = own_events.SHAPES[name]()
    expected, found = of_file(shape, tmp_path / "file"), way(shape, tmp_path / "way")
    columns = [column for column in expected.columns if column != Columns.ROW]
    order = [Columns.USER, Columns.TIME, Columns.ITEM]
    pd.testing.assert_frame_equal(*(frame.sort_values(order)[columns].reset_index(drop=True) for frame in (found, expected)))


@SHAPES
def test_events_in_memory_are_those_in_pieces(name: str, tmp_path: Path) -> None:
    shape = own_events.SHAPES[name]()
    source = ingest(settings(shape, local_path=own_events.write(shape, tmp_path / "data", tables=False)))
    assert list(source.tables.interactions)[:4] == list(Columns.EVENT)
    whole = validate(source.tables, LAX, NOW, source.properties, source.reading)
    pd.testing.assert_frame_equal(whole.interactions, of_file(shape, tmp_path), check_dtype=False)
    if name != "music":
        texts = whole.ids["user_ids"].set_index(Columns.USER)[Columns.EXTERNAL_ID]
        assert set(texts[whole.interactions[Columns.USER].unique()]) == set(shape.events[shape.user])


def test_bad_rows_of_a_teams_own_events_are_told_with_the_settings_that_mend_them(tmp_path: Path) -> None:
    shape = own_events.shop()
    frame = shape.events.copy()
    frame.loc[::7, "kind"] = "gift"
    frame.loc[1::7, "occurred_at"] = "yesterday"
    frame.loc[2::7, "customer"] = "x" * 600
    frame.to_csv(tmp_path / "shop.csv", index=False)
    with pytest.raises(DataRefusedError) as caught:
        built(settings(shape, local_path=tmp_path / "shop.csv"), tmp_path)
    for said in (
        "weight is a kind of event that data.weights does not name",
        "add each kind of event to data.weights",
        "timestamp is not an ISO 8601 time",
        "set data.timestamp_format to how they are written",
        "user_id is longer than 500 bytes",
    ):
        assert said in str(caught.value)


def test_ids_that_become_text_in_a_later_delivery_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    place = Place(tmp_path, settle_s=0, give_up_s=0)
    place.put("a.csv", "user_id,item_id,rating,timestamp\n1,2,3,1000000000\n")
    first = place.land()
    place.put("b.csv", "user_id,item_id,rating,timestamp\nu1,2,3,1000000000\nu2,2,3,1000000001\n")
    second = place.land()
    [account] = second.accounts
    assert account.status == "quarantined" and account.accepted == 0
    assert "user_id" in account.why and "are text, such as u1, but those of the dataset are integers" in account.why
    assert second.dataset.version == first.dataset.version
    place.data = place.data.model_copy(update={"id_type": IdTypeSettings(user="text")})
    place.put("c.csv", "user_id,item_id,rating,timestamp\nu1,2,3,1000000000\n")
    with pytest.raises(SettingsError, match=r"data\.id_type\.user"):
        place.land()


@pytest.mark.parametrize(
    ("ratings", "items", "users"),
    [
        ("ratings.dat", "007::Heat (1995)::Crime\n8::Two (1996)::War\n9::Alone::War\n", "01::M::25::1::02139\n7::F::35::1::1\n"),
        (
            "u.data",
            "".join(f"{text}|{title}|01-Jan-{year}||u|{'0|' * 6}1|{'0|' * 11}0\n" for text, title, year in FILMS),
            "01|25|M|artist|02139\n7|35|F|artist|1\n",
        ),
    ],
)
def test_tables_without_headers_describe_text_ids(ratings: str, items: str, users: str, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    separator, names = ("::", ("movies.dat", "users.dat")) if ratings.endswith(".dat") else ("\t", ("u.item", "u.user"))
    rows = (("01", "007", "3", "1600000000"), ("7", "8", "4", "1600000001"), ("7", "7", "4", "1600000002"))
    (folder / ratings).write_text("".join(separator.join(row) + "\n" for row in rows))
    (folder / names[0]).write_text(items)
    (folder / names[1]).write_text(users)
    data = DataSettings(local_path=folder, dataset="text", id_type=IdTypeSettings(user="text", item="text"))
    source = locate(data)
    with building(source, ValidationSettings(min_rows=1), EtlSettings(work_dir=tmp_path / "work"), 1_700_000_000) as found:
        texts = {table: pd.read_parquet(path) for table, path in found.ids.items()}
        named = found.items.merge(texts["item_ids"], on="item_id").set_index("external_id")
        people = found.users.merge(texts["user_ids"], on="user_id").set_index("external_id")
        tables = found.report.tables
    assert named["title"].to_dict() == {"007": "Heat", "8": "Two", "9": "Alone", "7": ""}
    assert named["year"].dropna().to_dict() == ({"007": 1995, "8": 1996} | ({} if ratings.endswith(".dat") else {"9": 1997}))
    assert people["zip_code"].to_dict() == {"01": "02139", "7": "1"} and people["age"].to_dict() == {"01": 25, "7": 35}
    assert (tables["items"].rows, tables["items"].accepted, tables["users"].accepted) == (3, 3, 2)
    in_memory = ingest(data).tables
    assert in_memory.items is not None and set(in_memory.items["item_id"]) <= set(found.items["item_id"])


def test_a_release_says_which_descriptions_are_bad_and_how_to_mend_them(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "events.csv").write_text("user_id,item_id,rating,timestamp\n1,1,3,1600000000\n")
    (folder / "items.csv").write_text("item_id,title,updated_at\n1,Good,5\n2,Bad,6\n3,Worse,8999999999\nx,Worst,7\n")
    source = locate(DataSettings(local_path=folder, dataset="told"))
    with building(source, LAX, EtlSettings(work_dir=tmp_path / "work"), 1_700_000_000) as found:
        (said,) = found.report.bad_descriptions()
    assert said.startswith("2 of 4 rows of items are quarantined: ") and said.endswith(".")
    assert "updated_at lies in the future (1): correct the clock" in said
    assert "item_id is not a number (1): set data.id_type.item to text" in said
