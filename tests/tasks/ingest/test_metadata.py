from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import SourceError
from tasks.ingest import (
    DescriptionFile,
    ItemModel,
    UserModel,
    described,
    description_kind,
    public,
    read_descriptions,
    seeded,
    with_events,
)
from tests.tasks.landed import SETTLED, Place, events

HOUR = 3600 * 10**9


def reasons(found: DescriptionFile) -> dict[str, int]:
    counts: dict[str, int] = found.quarantined["reasons"].str.split("; ").explode().value_counts().to_dict()
    return counts


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "header", "kind"),
    [
        ("movies.csv", "movieId,title,genres", "items"),
        ("anything.csv", "genres,item_id,updated_at", "items"),
        ("users.csv", "userId,age", "users"),
        ("ratings.csv", "userId,movieId,rating,timestamp", None),
        ("wide.csv", "userId,movieId,rating,timestamp,title,age", None),
        ("links.csv", "movieId,imdbId,tmdbId", None),
        ("movies.txt", "movieId,title,genres", "items"),
    ],
)
def test_a_file_is_known_by_its_columns(name: str, header: str, kind: str | None, tmp_path: Path) -> None:
    assert description_kind(written(tmp_path, name, f"{header}\n")) == kind
    if not name.endswith(".txt"):
        assert description_kind(written(tmp_path, f"{name}.gz", gzip.compress(f"{header}\n".encode(), mtime=0))) == kind
        frame = pd.DataFrame({column: ["1"] for column in header.split(",")})
        frame.to_parquet(tmp_path / "x.parquet")
        assert description_kind(tmp_path / "x.parquet") == kind


def test_bad_rows_are_set_aside_and_impossible_cells_are_missing(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "movies.csv",
        'movieId,title,genres,director\n1,"Heat, The (1995)",(no genres listed),x\nx,Y,Z,\n2,NA (1066),Drama,\n1,Again,,\n-4,Z,,\n5,Heat, The,Crime,y\n6,Short\n',
    )
    found = read_descriptions(path, "items", HOUR, "ab")
    assert found.rows == 7 and len(found.frame) == 2 and found.extra_columns == ("director",)
    assert reasons(found) == {
        "has more or fewer cells than there are columns": 2,
        "item_id is negative": 1,
        "item_id is not a number": 1,
        "item_id stands in an earlier row": 1,
    }
    assert found.quarantined["row"].tolist() == [1, 3, 4, 5, 6]
    assert found.frame["title"].tolist() == ["Heat, The", "NA"] and found.frame["genres"].tolist() == ["", "Drama"]
    assert found.frame["year"].isna().tolist() == [False, True] and found.frame["year"][0] == 1995
    path = written(tmp_path, "users.csv", "userId,age,gender,zip_code\n1,900,F,02139\n2,31,,\n")
    frame = read_descriptions(path, "users", HOUR, "ab").frame
    UserModel.validate(public("users", frame))
    assert frame["zip_code"].tolist() == ["02139", pd.NA] and frame["age"].isna().tolist() == [True, False]


def test_a_parquet_file_and_its_own_times(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"item_id": [1, 2], "title": ["A", None], "year": [1990, 1800], "genres": [["x"], None], "updated_at": [5, -1]}
    )
    frame.to_parquet(tmp_path / "m.parquet")
    found = read_descriptions(tmp_path / "m.parquet", "items", HOUR, "ab")
    assert found.frame["described_at"].tolist() == [5 * 10**9] and reasons(found) == {"updated_at is no time in UTC seconds": 1}
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
        read_descriptions(path, "items", HOUR, "ab")


@pytest.mark.parametrize("place", ["a column", "a field", "a title", "a cell that is not read"])
def test_a_parquet_file_with_text_that_is_no_utf8_is_named(place: str, tmp_path: Path) -> None:
    columns = {"movieId": [1], "title": ["a title"], "a column": [1], "more": [{"a field": "a cell that is not read"}]}
    pq.write_table(pa.table(columns), tmp_path / "whole.parquet", compression="none", store_schema=False)
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = written(tmp_path, "m.parquet", whole.replace(place.encode(), b"\xff" * len(place)))
    assert description_kind(path) in ("items", None)
    with pytest.raises(SourceError, match=r"m\.parquet is damaged"):
        read_descriptions(path, "items", HOUR, "ab")


def test_ids_that_get_an_event_are_added_undescribed() -> None:
    table = seeded("users", None, np.array([4, 2]))
    assert table["user_id"].tolist() == [2, 4] and table["rated"].all()
    assert with_events("users", table, np.array([2])) is table
    more = with_events("users", table, np.array([3]))
    assert more["user_id"].tolist() == [2, 3, 4]
    UserModel.validate(public("users", more))


def item(movie: int, title: str, at: int, origin: str) -> pd.DataFrame:
    frame = pd.DataFrame({"item_id": [movie], "title": [title], "year": [1990], "genres": [""]})
    kinds = {"title": "string", "genres": "string", "year": "Int64"}
    return frame.astype(kinds).assign(described_at=at, described_in=pd.Series([origin], dtype="string"))


@given(st.permutations([item(1, "a", 5, "x"), item(1, "b", 7, "y"), item(1, "c", 7, "z"), item(2, "d", 1, "x"), item(1, "e", 7, "w")]), st.integers(1, 4))  # fmt: skip
def test_the_newest_description_counts_in_whatever_order_they_come(provided: list[pd.DataFrame], cut: int) -> None:
    table = seeded("items", None, np.array([1, 3]))
    for batch in (provided[:cut], provided[cut:]):
        table, counts = described("items", table, pd.concat(batch, ignore_index=True))
        assert len(counts) == len(batch)
    assert table[["item_id", "title", "rated"]].to_numpy().tolist() == [[1, "c", True], [2, "d", False], [3, "", True]]


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
    assert (first.dataset.users, first.dataset.items) == (2, 2)  # that are rated

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


def test_a_file_of_descriptions_that_is_mostly_bad_tells_nothing(tmp_path: Path) -> None:
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
def test_a_damaged_file_is_read_with_an_account_that_closes_or_named(
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
        found = read_descriptions(path, "items", HOUR, "ab")
    except SourceError as error:
        assert str(path) in str(error)
        return
    assert found.rows == len(found.frame) + len(found.quarantined)
    ItemModel.validate(public("items", found.frame))
