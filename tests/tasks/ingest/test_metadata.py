from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import SourceError
from configs.settings import DataSettings
from tasks.ingest import (
    DescriptionFile,
    described,
    description_kind,
    public,
    read_descriptions,
    seeded,
    table_readings,
    with_events,
    with_times,
)
from tasks.ingest.events import remedy
from tasks.tables import ItemModel, UserModel
from tests.tasks.landed import NOW, SETTLED, Place, events

HOUR, LATEST = 3600, 2_000_000_000


def reasons(found: DescriptionFile) -> dict[str, int]:
    counts: dict[str, int] = found.quarantined["reasons"].str.split("; ").explode().value_counts().to_dict()
    return counts


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_bad_rows_are_quarantined_and_impossible_cells_count_as_missing(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "movies.csv",
        'movieId,title,genres,director\n1,"Heat, The (1995)",(no genres listed),x\nx,Y,Z,\n2,NA (1066),Drama,\n1,Again,,\n-4,Z,,\n5,Heat, The,Crime,y\n6,Short\n',
    )
    found = read_descriptions(path, "items", HOUR, LATEST)
    assert found.rows == 7 and len(found.frame) == 3 and found.extra_columns == ("director",)
    assert reasons(found) == {
        "has more or fewer cells than there are columns": 2,
        "item_id is negative": 1,
        "item_id is not a number": 1,
    }
    assert found.quarantined["row"].tolist() == [1, 4, 5, 6]
    assert found.frame["title"].tolist() == ["Heat, The", "NA", "Again"] and found.frame["genres"].tolist() == ["", "Drama", ""]
    assert found.frame["year"].isna().tolist() == [False, True, True] and found.frame["year"][0] == 1995
    assert found.frame["genres_at"].tolist() == [HOUR, HOUR, -2] and found.frame["year_at"].tolist() == [HOUR, -2, -2]
    path = written(tmp_path, "users.csv", "userId,age,gender,zip_code\n1,900,F,02139\n2,31,,\n")
    frame = read_descriptions(path, "users", HOUR, LATEST).frame
    UserModel.validate(public("users", frame))
    assert frame["zip_code"].tolist() == ["02139", pd.NA] and frame["age"].isna().tolist() == [True, False]


def test_a_parquet_file_is_read_with_the_times_of_its_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"item_id": [1, 2], "title": ["A", None], "year": [1990, 1800], "genres": [["x"], None], "updated_at": [5, -1]}
    )
    frame.to_parquet(tmp_path / "m.parquet")
    found = read_descriptions(tmp_path / "m.parquet", "items", HOUR, LATEST)
    assert found.frame["title_at"].tolist() == [5] and reasons(found) == {"updated_at is negative": 1}
    ItemModel.validate(public("items", found.frame))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", b"", "is empty"),
        ("m.csv", b"movieId,item_id,title\n1,2,x\n", "two columns for item_id"),
        (
            "m.csv",
            b"movieId,title\n1,\xff\xfe\n",
            r"m\.csv describes items, but it is not written in UTF-8: line 2 has the byte 0xff",
        ),
        ("m.csv.gz", gzip.compress(b"movieId,title\n" + bytes(range(48, 58)) * 999, mtime=0)[:40], "cut short"),
        ("m.parquet", b"PAR1", "is damaged"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(SourceError, match=said):
        read_descriptions(path, "items", HOUR, LATEST)


@pytest.mark.parametrize("place", ["a column", "a field", "a title", "a cell that is not read"])
def test_a_parquet_file_with_text_that_is_not_utf8_is_named(place: str, tmp_path: Path) -> None:
    columns = {"movieId": [1], "title": ["a title"], "a column": [1], "more": [{"a field": "a cell that is not read"}]}
    pq.write_table(pa.table(columns), tmp_path / "whole.parquet", compression="none", store_schema=False)
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = written(tmp_path, "m.parquet", whole.replace(place.encode(), b"\xff" * len(place)))
    assert description_kind(path) in ("items", None)
    with pytest.raises(SourceError, match=r"m\.parquet is damaged"):
        read_descriptions(path, "items", HOUR, LATEST)


def test_ids_with_a_first_event_are_added_without_a_description() -> None:
    table = seeded("users", None, np.array([4, 2]))
    assert table["user_id"].tolist() == [2, 4] and table["rated"].all()
    assert with_events("users", table, np.array([2])) is table
    more = with_events("users", table, np.array([3]))
    assert more["user_id"].tolist() == [2, 3, 4]
    UserModel.validate(public("users", more))


def item(movie: int, title: str, at: int) -> pd.DataFrame:
    frame = pd.DataFrame({"item_id": [movie], "title": [title], "year": [1990], "genres": [""]})
    kinds = {"title": "string", "genres": "string", "year": "Int64"}
    times = {"title_at": at, "year_at": at, "genres_at": -2, "title_from": 0, "year_from": 0, "genres_from": 0}
    return frame.astype(kinds).assign(**times)


@pytest.mark.full
@given(st.permutations([item(1, "a", 5), item(1, "b", 7), item(1, "e", 7), item(2, "d", 1), item(1, "c", 7)]), st.integers(1, 4))
def test_the_newest_description_counts_in_any_order_of_arrival(provided: list[pd.DataFrame], cut: int) -> None:
    table = seeded("items", None, np.array([1, 3]))
    for batch in (provided[:cut], provided[cut:]):
        table, counts = described("items", table, pd.concat(batch, ignore_index=True), LATEST)
        assert len(counts) == len(batch)
    assert table[["item_id", "title", "rated"]].to_numpy().tolist() == [[1, "e", True], [2, "d", False], [3, "", True]]


def test_descriptions_land_beside_events_and_update_the_tables(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (2, 2, 4, 0)))
    place.put("movies.csv", "movieId,title,genres\n1,One (1990),Drama\n9,Nine (1999),\n")
    place.put("users.csv", "userId,gender,age\n1,F,30\n7,M,31\n")
    first = place.land()
    assert {account.file: account.kind for account in first.accounts} == {
        "a.csv": "events",
        "movies.csv": "items",
        "users.csv": "users",
    }
    items, users = place.table(first.dataset, "items"), place.table(first.dataset, "users")
    ItemModel.validate(items)
    UserModel.validate(users)
    assert items["title"].tolist() == ["One", "", "Nine"] and users["user_id"].tolist() == [1, 2, 7]
    assert (first.dataset.users, first.dataset.items) == (2, 2)  # only those with a rating

    original = (place.zone / "movies.csv").read_bytes()
    place.put("movies.csv", "movieId,title,genres\n1,Uno (1990),Drama\n", modified=SETTLED + 9)
    second = place.land()
    assert second.accounts[0].accepted == 1 and place.table(second.dataset, "items")["title"].tolist() == ["Uno", "", "Nine"]
    place.put("older.csv", "movieId,title,genres\n1,Ein (1990),Drama\n", modified=SETTLED - 9)
    third = place.land()
    assert third.accounts[0].duplicates == 1 and third.dataset == second.dataset
    place.put("movies.csv", original, modified=SETTLED + 20)  # the first text comes back, and counts again
    fourth = place.land()
    assert place.table(fourth.dataset, "items")["title"].tolist() == ["One", "", "Nine"] and fourth.accounts[0].accepted == 2
    assert place.land().accounts == ()
    with_year = place.table(fourth.dataset, "items")
    assert_frame_equal(with_year, place.table(first.dataset, "items"))
    assert fourth.dataset.version.split("-")[0] == first.dataset.version.split("-")[0]


def test_a_file_of_descriptions_that_is_mostly_bad_describes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, refuse_from_rows=2)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.put("movies.csv", "movieId,title,genres\nx,A,\ny,B,\n1,C,\n")
    found = place.land()
    account = next(account for account in found.accounts if account.kind == "items")
    assert (account.quarantined, account.accepted, account.status) == (3, 0, "quarantined")
    assert place.table(found.dataset, "items")["title"].tolist() == [""]
    assert place.store.exists(f"landing/small/quarantine/{account.sha256}.parquet")


@given(
    st.lists(
        st.tuples(st.sampled_from(["flip", "cut", "insert", "repeat"]), st.integers(0, 400), st.binary(min_size=1, max_size=6)),
        max_size=6,
    ),
    st.sampled_from(["m.csv", "m.csv.gz", "m.parquet"]),
)
def test_a_damaged_file_is_either_read_with_every_row_accounted_for_or_named(
    tmp_path_factory: pytest.TempPathFactory, mutations: list[tuple[str, int, bytes]], name: str
) -> None:
    text = 'movieId,title,genres\r\n1,"Heat, The (1995)",Action|Crime\n2,Two (1990),\n\n3,"A ""B"" (1999)",Drama\n'
    folder = tmp_path_factory.mktemp("damaged")
    frame = pd.DataFrame({"movieId": [1, 2, 3], "title": ["Heat (1995)", None, "B"], "genres": ["", "Drama", None]})
    frame.to_parquet(folder / "whole.parquet")
    content = {
        "m.csv": text.encode(),
        "m.csv.gz": gzip.compress(text.encode(), mtime=0),
        "m.parquet": (folder / "whole.parquet").read_bytes(),
    }[name]
    for kind, place, noise in mutations:
        place = place * (len(content) // 100 + 1) % max(len(content), 1)
        content = {
            "flip": content[:place] + noise + content[place + len(noise) :],
            "cut": content[:place],
            "insert": content[:place] + noise + content[place:],
            "repeat": content + content[place:],
        }[kind]
    path = written(folder, name, content)
    kind_found = description_kind(path)
    assert kind_found in ("items", "users", None)
    try:
        found = read_descriptions(path, "items", HOUR, LATEST)
    except SourceError as error:
        assert str(path) in str(error)
        return
    assert found.rows == len(found.frame) + len(found.quarantined)
    provided = found.frame.assign(title_from=0, year_from=0, genres_from=0)
    ItemModel.validate(public("items", described("items", seeded("items", None, np.array([1])), provided, LATEST)[0]))


def test_a_file_changes_only_what_it_mentions(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (2, 2, 4, 0)))
    place.put("movies.csv", "movieId,title,genres\n1,Heat (1995),Crime\n2,Two (1990),Drama\n")
    place.put("users.csv", "userId,gender,age,occupation\n1,F,30,writer\n2,M,31,artist\n")
    place.land()
    place.put("titles.csv", "movieId,title\n1,Heat: The Film\n", modified=SETTLED + 9)
    place.put("ages.csv", "userId,age,gender\n1,33,\n2,,F\n", modified=SETTLED + 9)
    found = place.land().dataset
    items, users = place.table(found, "items"), place.table(found, "users")
    assert items.to_numpy().tolist() == [[1, "Heat: The Film", 1995, "Crime"], [2, "Two", 1990, "Drama"]]
    assert users[["gender", "age", "occupation"]].to_numpy().tolist() == [["F", 33, "writer"], ["F", 31, "artist"]]
    place.put("none.csv", "movieId,genres\n1,(no genres listed)\n2,\n9,\n", modified=SETTLED + 20)
    landed = place.land()
    assert place.table(landed.dataset, "items")["genres"].tolist() == ["", "Drama"]
    assert (landed.accounts[0].accepted, landed.accounts[0].duplicates) == (1, 2)


ROWS = ["1,Oldest,Crime,100", "1,Newest,,300", "1,Between,Drama,200", "1,Also newest,,300", "2,Two,War,100"]


@pytest.mark.full
@given(rows=st.permutations(ROWS), cut=st.integers(0, 5))
@settings(max_examples=10)
def test_the_newest_cell_counts_whatever_the_order_of_rows_and_files(
    rows: list[str], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("rows"))
    place.put("a.csv", events((1, 1, 4, 0), (2, 2, 4, 0)))
    for name, own in (("x.csv", rows[:cut]), ("y.csv", rows[cut:])):
        place.put(name, "\n".join(["movieId,title,genres,updated_at", *own]) + "\n")
    found = place.land()
    assert sum(account.quarantined for account in found.accounts) == 0
    assert place.table(found.dataset, "items")[["title", "genres"]].to_numpy().tolist() == [["Newest", "Drama"], ["Two", "War"]]


def test_a_description_from_the_future_is_quarantined_and_blocks_no_correction(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.put("far.csv", "movieId,title,updated_at\n1,Far,8999999999\n")
    place.put("mixed.csv", "movieId,title,updated_at\n1,Far,1700000000000\n1,Old,5\n1,Old,6\n")
    found = place.land()
    reasons = {account.file: account.reasons for account in found.accounts}
    assert reasons["far.csv"] == {"updated_at lies in the future": 1}
    assert reasons["mixed.csv"] == {"updated_at is in milliseconds, not seconds": 1}
    place.put("ahead.csv", "movieId,title\n1,Ahead\n", modified=NOW + 10**8)
    place.settings = place.settings.model_copy(update={"settle_s": 0.0})
    assert place.table(place.land().dataset, "items")["title"].tolist() == ["Ahead"]
    place.put("near.csv", f"movieId,title,updated_at\n1,Near,{int(NOW) + 60}\n")
    assert place.table(place.land(NOW + 100).dataset, "items")["title"].tolist() == ["Near"]


AT = 1_704_067_200  # 2024-01-01


@pytest.mark.parametrize(
    ("cells", "given", "times"),
    [
        (["1704067200", None, "1704067201.9"], {}, [AT, HOUR, AT + 1]),
        (["1704067200000", "1704067201999", ""], {}, [AT, AT + 1, HOUR]),
        (["1704067200000000", "1704067201999999"], {}, [AT, AT + 1]),
        (["1704067200000000000", "1704067199999999999"], {}, [AT, AT - 1]),
        (["2024-01-01T00:00:00Z", "2024-01-01 01:00:01+01:00", " "], {}, [AT, AT + 1, HOUR]),
        (["2024-01-01", "2024-01-01T00:00:01"], {"timezone": "UTC"}, [AT, AT + 1]),
        (["01/01/2024 01:00"], {"timestamp_format": "%d/%m/%Y %H:%M", "timezone": "Europe/Berlin"}, [AT]),
        (["1704067200"], {"timestamp_format": "ms"}, [AT]),  # the unit of events says nothing about descriptions
        ([pd.Timestamp("2024-01-01"), None], {}, [AT, HOUR]),
        ([pd.Timestamp("2024-01-01", tz="Europe/Berlin")], {}, [AT - HOUR]),
        ([pd.Timestamp("2024-01-01")], {"timezone": "Europe/Berlin"}, [AT - HOUR]),
        ([AT * 1000, AT * 1000 + 999], {}, [AT, AT]),
    ],
)
def test_the_time_of_a_row_is_read_as_that_of_an_event(
    cells: list[object], given: dict[str, str], times: list[int], tmp_path: Path
) -> None:
    readings = table_readings(DataSettings.model_validate(given))
    frame = pd.DataFrame({"item_id": range(len(cells)), "title": "A", "updated_at": cells})
    paths = [tmp_path / "items.parquet", tmp_path / "items.csv"]
    frame.to_parquet(paths[0])
    frame.to_csv(paths[1], index=False)
    for path in paths if isinstance(cells[0], str) else paths[:1]:
        found = read_descriptions(path, "items", HOUR, LATEST, readings)
        assert reasons(found) == {} and found.frame["title_at"].tolist() == times, path


@pytest.mark.parametrize(
    ("cells", "reason", "said"),
    [
        (["soon"], "updated_at is not a number", "write UTC seconds, such as 1700000000, or ISO 8601"),
        (["2024-01-01T00:00:00"], "updated_at has no time zone", "add a zone to each, or set data.timezone"),
        (["2024-01-01T00:00:01Z", "2024-01-01T00:00:00Z", "soon"], "updated_at is not an ISO 8601 time", "write UTC seconds"),
        (
            ["1704067200000", "1704067200000", "1704067200"],
            "updated_at is in seconds, not milliseconds",
            "write all of a file in",
        ),
        (["-1"], "updated_at is negative", "the smallest is 0"),
        (["8999999999"], "updated_at lies in the future", "raise validation.max_future_s"),
        (["2255-01-01T00:00:00Z"], "updated_at lies in the future", "raise validation.max_future_s"),
    ],
)
def test_a_time_of_a_row_that_cannot_be_read_has_a_remedy_that_mends_it(
    cells: list[str], reason: str, said: str, tmp_path: Path
) -> None:
    rows = "".join(f"{number},A,{cell}\n" for number, cell in enumerate(cells))
    found = read_descriptions(written(tmp_path, "items.csv", f"item_id,title,updated_at\n{rows}"), "items", HOUR, LATEST)
    assert reasons(found).get(reason) and said in remedy(reason)


def test_copies_of_a_zone_whose_files_have_the_same_time_give_the_same_data(tmp_path: Path) -> None:
    files = {"b.csv": "movieId,title\n1,Old\n", "c.csv": "movieId,title\n1,New\n", "a.csv": events((1, 1, 4, 0))}
    contents = set()
    for number, names in enumerate((sorted(files), sorted(files, reverse=True))):
        place = Place(tmp_path / str(number))
        for shift, name in enumerate(names):
            place.put(f"{number}{name}" if number else name, files[name], modified=SETTLED + shift / 10)
        contents.add(place.land().dataset.version.partition("-")[0])
    assert len(contents) == 1


def test_a_table_that_an_earlier_version_stored_gets_a_time_for_each_cell() -> None:
    stored = pd.DataFrame({"item_id": [1, 2, 3], "title": ["A", "B", ""], "year": [1990, None, None], "genres": ["", "War", ""]})
    kinds = {"title": "string", "genres": "string", "year": "Int64"}
    stored = stored.astype(kinds).assign(rated=[True, False, True], described_at=[7 * 10**9, -1, -2], described_in="ab")
    found = with_times("items", stored)
    assert found["title_at"].tolist() == [7, -1, -2] and found["genres_at"].tolist() == [-2, -1, -2]
    assert found["rated"].tolist() == [True, False, True] and with_times("items", found) is found
    late = found.assign(title_at=8_999_999_999)
    assert described("items", late, item(1, "new", 9), LATEST)[0]["title"].tolist() == ["new", "B", ""]
