"""Files of descriptions: how they are told from events and from each other, and how their bytes are read."""

from __future__ import annotations

import gzip
from pathlib import Path
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import SourceError
from configs.settings import DataSettings
from tasks.ingest import (
    description_kind,
    locate,
    read_descriptions,
    table_readings,
)
from tasks.tables import DatasetProperties
from tests.tasks.landed import SETTLED, Place, events

LATEST = 2_000_000_000


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
        ("views.csv", "userId,movieId,timestamp,title", None),
        ("scores.csv", "movieId,title,rating", "items"),
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


def test_a_file_of_two_kinds_is_refused_and_named(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", "userId,movieId,title\n1,1,Heat\n")
    with pytest.raises(SourceError, match=r"x\.csv has user_id and item_id, but no timestamp"):
        description_kind(path)


SHARED = DataSettings.model_validate(
    {
        "feedback": "implicit",
        "columns": {"user": "customer_id", "item": "product_id", "timestamp": "ts"},
        "columns_items": {"item": "id", "attributes": ["brand", "country"]},
        "columns_users": {"user": "id", "attributes": ["country"]},
    }
)


@pytest.mark.parametrize(
    ("name", "header", "kind"),
    [
        ("a.csv", "id,title,brand", "items"),
        ("b.csv", "id,age,country", "users"),
        ("c.csv", "id,title,ts", "items"),  # its own time makes no events of it
        ("d.csv", "id,color", None),
        ("orders.csv", "id,customer_id,product_id,ts,title,age", None),  # events have an id too
        ("e.csv", "id,brand,country", "items"),  # users have no brand
        ("customers.csv", "id,title,age", "users"),
        ("products.csv", "id,country", "items"),
    ],
)
def test_one_column_with_the_ids_of_items_and_of_users_is_told_apart_by_the_other_columns(
    name: str, header: str, kind: str | None, tmp_path: Path
) -> None:
    path = written(tmp_path, name, f"{header}\n")
    assert description_kind(path, table_readings(SHARED)) == kind


def test_a_file_that_may_describe_items_or_users_is_refused_in_a_folder_and_waits_in_a_zone(tmp_path: Path) -> None:
    place = Place(tmp_path, give_up_s=0)
    place.data = SHARED.model_copy(update={"dataset": "small"})
    place.put("orders.csv", "customer_id,product_id,ts\n1,2,1600000000\n")
    place.put("brands.csv", "id,title,brand\n2,Hat,Acme\n")
    place.put("people.csv", "id,age,country\n1,30,DE\n")
    place.put("mixed.csv", "id,title,age\n1,x,3\n")
    said = r"mixed\.csv may describe items \(title\) or users \(age\): both have ids named id\. Begin the name of the file"
    with pytest.raises(SourceError, match=said):
        locate(place.data.model_copy(update={"local_path": place.zone}))
    found = place.land()
    assert {account.file: account.kind for account in found.accounts} == {
        "orders.csv": "events",
        "brands.csv": "items",
        "people.csv": "users",
        "mixed.csv": "unreadable",
    }
    assert place.table(found.dataset, "items")["title"].tolist() == ["Hat"]
    assert place.table(found.dataset, "users")["country"].tolist() == ["DE"]
    (place.zone / "mixed.csv").unlink()
    files = locate(place.data.model_copy(update={"local_path": place.zone})).files
    assert {path.name: kind for path, kind in files.descriptions} == {"brands.csv": "items", "people.csv": "users"}


@pytest.mark.parametrize(
    ("columns", "rows", "kind"),
    [
        ("userId,movieId,timestamp,title", ["1,1,946684900,Heat", "1,2,946684901,Two"], "unreadable"),  # ratings are missing
        ("userId,movieId,rating,title", ["1,1,4,Heat", "1,2,4,Two"], "unreadable"),  # times are missing
        ("userId,movieId,rating,timestamp,title", ["1,1,4,946684900,Heat", "1,2,4,946684901,Two"], "events"),
    ],
)
def test_events_with_titles_are_never_taken_for_films(columns: str, rows: list[str], kind: str, tmp_path: Path) -> None:
    place = Place(tmp_path, give_up_s=0)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.put("movies.csv", "movieId,title,genres\n1,Heat (1995),Crime\n")
    place.put("views.csv", "\n".join([columns, *rows]) + "\n", modified=SETTLED + 9)
    found = place.land()
    account = next(account for account in found.accounts if account.file == "views.csv")
    assert (account.kind, account.accepted) == (kind, 2 if kind == "events" else 0)
    titles = dict(place.table(found.dataset, "items")[["item_id", "title"]].to_numpy().tolist())
    assert titles == ({1: "Heat", 2: ""} if kind == "events" else {1: "Heat"})
    assert place.table(found.dataset, "items").query("item_id == 1")["genres"].tolist() == ["Crime"]


def test_bytes_of_parquet_are_text_and_uuids_have_their_usual_form(tmp_path: Path) -> None:
    keys = [UUID(int=number) for number in (1, 2)]
    columns = {
        "item_id": pa.array([key.bytes for key in keys], pa.binary(16)),
        "title": pa.array([b"Alien", "Amélie".encode()]),
        "genres": pa.array([b"Horror", b"Drama"]).dictionary_encode(),
        "poster": pa.array([b"\xff\xd8", b"\xff\xd9"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    readings = table_readings(DataSettings(), DatasetProperties(item_ids="text"))
    found = read_descriptions(tmp_path / "items.parquet", "items", 5, LATEST, readings)
    assert found.ids is not None and found.ids["text"].to_pylist() == [str(key) for key in keys]
    assert found.frame["title"].tolist() == ["Alien", "Amélie"] and found.frame["genres"].tolist() == ["Horror", "Drama"]
    assert found.extra_columns == ("poster",), "bytes that nobody reads are not a fault"


def test_bytes_of_parquet_that_are_no_text_are_told_with_their_column_and_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": [1], "title": [b"\xff"]}), tmp_path / "items.parquet")
    with pytest.raises(SourceError, match=r"The column title of .*items.parquet holds binary whose bytes are not text in UTF-8"):
        read_descriptions(tmp_path / "items.parquet", "items", 5, LATEST)
