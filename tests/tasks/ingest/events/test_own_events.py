"""Events of any shape: what the settings map is read, and what cannot be read is told with the setting that mends it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import SourceError
from configs.settings import DataSettings, ValidationSettings
from models.columns import Columns
from models.identity import number_of, numbers_of
from tasks.ingest import open_event_file, reading_for, resolved_properties
from tests import own_events

NOW = 1_780_000_000
LAX = ValidationSettings(min_rows=1)
SHOP = {
    "columns": {"user": "customer", "item": "sku", "timestamp": "at", "weight": "kind"},
    "feedback": "implicit",
    "weights": {"view": 0.1, "buy": 1, "bot": 0},
}


def read(
    path: Path, chunk_rows: int = 1_000_000, **data: Any
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, dict[int, str]], int]:
    """Return the accepted and the quarantined rows, the text ids by column, and the number of rows that are left out."""
    settings = DataSettings.model_validate(data)
    properties = resolved_properties(settings, [path])
    file = open_event_file(path, LAX, NOW, chunk_rows, reading_for(settings, properties))
    chunks = list(file.chunks())
    again = [file.read(block) for block in file.blocks()]
    assert sum(chunk.rows for chunk in chunks) == sum(chunk.rows for chunk in again)
    ids: dict[str, dict[int, str]] = {}
    for chunk in chunks:
        assert chunk.rows == len(chunk.accepted) + len(chunk.quarantined) + chunk.left_out
        for column, table in chunk.ids.items():
            ids.setdefault(column, {}).update(zip(table["number"].to_pylist(), table["text"].to_pylist(), strict=True))
    accepted, quarantined = (
        pd.concat([getattr(chunk, name) for chunk in chunks], ignore_index=True) for name in ("accepted", "quarantined")
    )
    return accepted, quarantined, ids, sum(chunk.left_out for chunk in chunks)


def content(folder: Path, text: str, name: str = "events.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", own_events.SHAPES)
@pytest.mark.parametrize("chunk_rows", [1_000_000, 700])
def test_the_events_of_each_shape_are_read_with_its_settings(name: str, chunk_rows: int, tmp_path: Path) -> None:
    shape = own_events.SHAPES[name]()
    accepted, quarantined, ids, left_out = read(own_events.write(shape, tmp_path), chunk_rows, **shape.data)
    assert not len(quarantined) and not left_out and len(accepted) == len(shape.events)
    assert (accepted["timestamp"].to_numpy() == shape.seconds.to_numpy()).all() and (accepted["rating"] == 1).all()
    for column, given in ((Columns.USER, shape.user), (Columns.ITEM, shape.item)):
        written = shape.events[given]
        if name == "music":
            assert not ids and (accepted[column] == written).all()
        else:
            assert [ids[column][number] for number in accepted[column]] == written.tolist()
    if name == "shop":
        assert (accepted["weight"] == shape.events["kind"].map(shape.data["weights"])).all()


def test_kinds_of_events_have_their_weights_and_those_of_weight_0_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = "c1,p1,2024-05-01T10:00:00Z,view\nc1,p2,2024-05-01T10:00:01Z,bot\nc2,p1,2024-05-01T10:00:02Z,buy\nc2,p3,2024-05-01T10:00:03Z,gift\n"
    accepted, quarantined, ids, left_out = read(content(tmp_path, "customer,sku,at,kind\n" + rows), **SHOP)
    assert accepted["weight"].tolist() == [0.1, 1.0] and accepted["row"].tolist() == [0, 2] and left_out == 1
    assert quarantined["reasons"].tolist() == ["weight is a kind of event that data.weights does not name"]
    assert sorted(ids[Columns.ITEM].values()) == ["p1"], "ids of rows that do not count are not ids of the dataset"


def test_a_weight_may_be_a_number(tmp_path: Path) -> None:
    data = {"columns": {"weight": "seconds"}, "feedback": "implicit"}
    rows = "1,2,1700000000,2.5\n1,3,1700000001,0\n1,4,1700000002,-1\n1,5,1700000003,\n"
    accepted, quarantined, _, left_out = read(content(tmp_path, "user_id,item_id,timestamp,seconds\n" + rows), **data)
    assert accepted["weight"].tolist() == [2.5] and left_out == 1
    assert quarantined["reasons"].tolist() == ["weight is negative", "weight is missing"]


def test_ids_are_the_texts_as_they_are_written_without_blanks_around_them(tmp_path: Path) -> None:
    texts = ["007", "7", " 7", "é", "e\u0301", "A b", '"x,y"', "0x1F", "9" * 40, "-1", "1.0"]
    rows = "".join(f"{text},i,4,1700000000\n" for text in texts)
    accepted, quarantined, ids, _ = read(content(tmp_path, "user_id,item_id,rating,timestamp\n" + rows), id_type={"user": "text"})
    assert not len(quarantined)
    plain = ["007", "7", "7", "é", "e\u0301", "A b", "x,y", "0x1F", "9" * 40, "-1", "1.0"]
    assert accepted["user_id"].tolist() == numbers_of(plain).tolist()
    assert ids[Columns.USER] == {number_of(text): text for text in plain}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "user_id is missing"),
        ("NULL", "user_id is missing"),
        ("a\x07b", "user_id has a control character"),
        ("x" * 501, "user_id is longer than 500 bytes"),
        ("é" * 251, "user_id is longer than 500 bytes"),
        ("a\ufffd", "user_id has bytes that are not UTF-8"),
    ],
)
def test_a_text_that_is_no_id_makes_only_its_row_bad(text: str, reason: str, tmp_path: Path) -> None:
    rows = f"u1,2,4,1700000000\n{text},2,4,1700000000\nu2,2,4,1700000000\n"
    accepted, quarantined, ids, _ = read(content(tmp_path, "user_id,item_id,rating,timestamp\n" + rows))
    assert quarantined["reasons"].tolist() == [reason] and accepted["row"].tolist() == [0, 2]
    assert sorted(ids[Columns.USER].values()) == ["u1", "u2"]


def test_bytes_that_are_not_utf8_make_only_their_row_bad(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(b"user_id,item_id,rating,timestamp\nu1,2,4,1700000000\n\xff\xfe,2,4,1700000000\n")
    accepted, quarantined, _, _ = read(path)
    assert len(accepted) == 1 and quarantined["reasons"].tolist() == ["user_id has bytes that are not UTF-8"]


UUIDS = [UUID(int=number) for number in (1, 2**127 + 5, 3)]
KINDS_OF_BYTES: dict[str, tuple[pa.Array, list[str]]] = {
    "binary": (pa.array([b"a", "é".encode(), b"a"], pa.binary()), ["a", "é", "a"]),
    "large": (pa.array([b"a", b"b", b"c"], pa.large_binary()), ["a", "b", "c"]),
    "view": (pa.array([b"a", b"b", b"c"], pa.binary_view()), ["a", "b", "c"]),
    "dictionary": (pa.array([b"a", b"b", b"a"]).dictionary_encode(), ["a", "b", "a"]),
    "fixed": (pa.array([b"abc", b"abd", b"abe"], pa.binary(3)), ["abc", "abd", "abe"]),
    "uuid": (pa.array([each.bytes for each in UUIDS], pa.uuid()), [str(each) for each in UUIDS]),
    "bytes of uuid": (pa.array([each.bytes for each in UUIDS], pa.binary(16)), [str(each) for each in UUIDS]),
}


def parquet_of_users(folder: Path, users: pa.Array) -> Path:
    table = {
        "user_id": users,
        "item_id": range(len(users)),
        "rating": [4.0] * len(users),
        "timestamp": [1_700_000_000] * len(users),
    }
    pq.write_table(pa.table(table), folder / "events.parquet")
    return folder / "events.parquet"


@pytest.mark.parametrize("kind", KINDS_OF_BYTES)
def test_bytes_of_parquet_are_text_and_uuids_have_their_usual_form(kind: str, tmp_path: Path) -> None:
    cells, texts = KINDS_OF_BYTES[kind]
    accepted, quarantined, ids, _ = read(parquet_of_users(tmp_path, cells))
    assert [ids[Columns.USER][number] for number in accepted["user_id"]] == texts and not len(quarantined)


def test_bytes_of_parquet_that_are_numbers_are_numbers(tmp_path: Path) -> None:
    accepted, quarantined, ids, _ = read(parquet_of_users(tmp_path, pa.array([b"7", b"8", b"9"])))
    assert accepted["user_id"].tolist() == [7, 8, 9] and not len(quarantined) and not ids


def test_bytes_of_parquet_that_are_no_text_make_their_row_bad_or_the_column(tmp_path: Path) -> None:
    path = parquet_of_users(tmp_path, pa.array([b"a", b"\xff\xfe", b"c"]))
    accepted, quarantined, _, _ = read(path)
    assert accepted["item_id"].tolist() == [0, 2] and quarantined["reasons"].tolist() == ["user_id has bytes that are not UTF-8"]
    path = parquet_of_users(tmp_path, pa.array([bytes([number]) * 20 for number in (200, 210, 220)], pa.binary(20)))
    said = r"^The column user_id of .*events.parquet holds fixed_size_binary\[20\] whose bytes are not text in UTF-8. Write it as text"
    with pytest.raises(SourceError, match=said) as caught:
        read(path)
    assert "Also" not in str(caught.value)


TIMES = {
    "1700000000": "s",
    "1700000000999": "ms",
    "1700000000999999": "us",
    "1700000000999999999": "ns",
    "1700000000.75": "s",
    "2023-11-14T22:13:20Z": "iso",
    "2023-11-14 22:13:20.999999999+00:00": "iso",
    "2023-11-15T00:13:20+02:00": "iso",
    "2023-11-14T17:13:20-0500": "iso",
}


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("form", ["auto", "given"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_times_of_any_unit_and_iso_8601_are_whole_utc_seconds(time: str, form: str, suffix: str, tmp_path: Path) -> None:
    path = content(tmp_path, f"user_id,item_id,rating,timestamp\n1,2,4,{time}\n")
    if suffix == ".parquet":
        cells = [float(time) if "." in time and "-" not in time else int(time) if time.isdigit() else time]
        pq.write_table(
            pa.table({"user_id": [1], "item_id": [2], "rating": [4.0], "timestamp": cells}), path := tmp_path / "a.parquet"
        )
    accepted, quarantined, _, _ = read(path, timestamp_format="auto" if form == "auto" else TIMES[time])
    assert accepted["timestamp"].tolist() == [1_700_000_000] and not len(quarantined)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("form", ["auto", "ms", "iso"])
def test_parquet_timestamps_need_no_format(unit: str, zone: str | None, form: str, tmp_path: Path) -> None:
    times = pa.array([1_700_000_000], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "rating": [4.0], "timestamp": times}), tmp_path / "a.parquet")
    for timezone in (None, "Europe/Berlin"):
        accepted, _, _, _ = read(tmp_path / "a.parquet", timestamp_format=form, timezone=timezone)
        assert accepted["timestamp"].tolist() == [1_700_000_000 - (3600 if timezone and zone is None else 0)]


@pytest.mark.parametrize(
    ("times", "data", "seconds"),
    [
        (["2024-07-01T10:00:00", "2024-07-01"], {"timezone": "Europe/Berlin"}, [1719820800, 1719784800]),
        (["2024-07-01T10:00:00Z", "2024-07-01 10:00"], {"timezone": "Europe/Berlin"}, [1719828000, 1719820800]),
        (["2024-10-27T02:30:00", "2024-03-31T02:30:00"], {"timezone": "Europe/Berlin"}, [1729989000, 1711846800]),
        (["01/07/2024 10:00"], {"timezone": "UTC", "timestamp_format": "%d/%m/%Y %H:%M"}, [1719828000]),
        (["01/07/2024 10:00 +0200"], {"timestamp_format": "%d/%m/%Y %H:%M %z"}, [1719820800]),
        (["1 Jul 2024 10:00:00.5"], {"timezone": "UTC", "timestamp_format": "%d %b %Y %H:%M:%S.%f"}, [1719828000]),
        (["20240701"], {"timezone": "UTC", "timestamp_format": "%Y%m%d"}, [1719792000]),
    ],
)
def test_times_without_a_zone_and_patterns_are_read_by_the_settings(
    times: list[str], data: dict[str, str], seconds: list[int], tmp_path: Path
) -> None:
    rows = "".join(f"1,{number},4,{time}\n" for number, time in enumerate(times))
    accepted, quarantined, _, _ = read(content(tmp_path, "user_id,item_id,rating,timestamp\n" + rows), **data)
    assert accepted["timestamp"].tolist() == seconds and not len(quarantined)
    # One row that cannot be read must not change how the others are read.
    bad, quarantined, _, _ = read(content(tmp_path, "user_id,item_id,rating,timestamp\n" + rows * 3 + "1,9,4,x\n"), **data)
    assert bad["timestamp"].tolist() == seconds * 3 and len(quarantined) == 1


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("form", ["iso", "iso with a bad row", "%Y-%m-%dT%H:%M:%S", "timestamp"])
def test_the_first_and_the_last_day_of_the_calendar_make_only_their_rows_bad(zone: str, form: str, tmp_path: Path) -> None:
    times = ["2024-07-01T10:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59"] + ["x"] * form.endswith("row")
    rows = "".join(f"1,{number},4,{time}\n" for number, time in enumerate(times))
    path = content(tmp_path, "user_id,item_id,rating,timestamp\n" + rows)
    if form == "timestamp":
        stamps = pa.array([datetime.fromisoformat(time) for time in times], pa.timestamp("us"))
        table = {"user_id": [1] * 3, "item_id": range(3), "rating": [4.0] * 3, "timestamp": stamps}
        pq.write_table(pa.table(table), path := tmp_path / "events.parquet")
    accepted, quarantined, _, _ = read(path, timezone=zone, timestamp_format=form if form.startswith("%") else "iso")
    assert accepted["item_id"].tolist() == [0]
    late = "timestamp is in milliseconds, not seconds" if form == "timestamp" else "timestamp lies in the future"
    assert quarantined["reasons"].tolist()[:2] == ["timestamp is negative", late]


@pytest.mark.parametrize("time", ["2024-05-01T10:00:00Z", "2024-05-01", "7", "7.5", "true", "x"])
def test_text_that_looks_hexadecimal_is_text_whatever_the_first_column_holds(time: str, tmp_path: Path) -> None:
    """All columns that are read are text, and the first one is what Arrow would take for a time or a number."""
    data = {"id_type": {"user": "text", "item": "text"}, "feedback": "implicit", "timestamp_format": "iso", "timezone": "UTC"}
    rows = f"{time},2024-05-01T10:00:00Z,u1,i1\n{time},2024-05-01T10:00:01Z,u2,10x15\n"
    accepted, quarantined, ids, _ = read(content(tmp_path, "noted,timestamp,user_id,item_id\n" + rows), **data)
    assert len(accepted) == 2 and not len(quarantined) and sorted(ids[Columns.ITEM].values()) == ["10x15", "i1"]
    first = content(tmp_path, "timestamp,user_id,item_id\n2024-05-01T10:00:00Z,u1,0x1F\n", "first.csv")
    accepted, quarantined, ids, _ = read(first, **data)
    assert len(accepted) == 1 and not len(quarantined) and list(ids[Columns.ITEM].values()) == ["0x1F"]


def test_a_day_that_does_not_exist_is_no_other_day(tmp_path: Path) -> None:
    data = {"timezone": "UTC", "timestamp_format": "%d/%m/%Y"}
    path = content(tmp_path, "user_id,item_id,rating,timestamp\n1,2,4,31/02/2024\n1,3,4,02/03/2024\n")
    accepted, quarantined, _, _ = read(path, **data)
    assert accepted["timestamp"].tolist() == [1709337600]
    assert quarantined["reasons"].tolist() == ["timestamp does not match %d/%m/%Y"]


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (
            "03/04/2025",
            r"may be 2025-04-03 \('%d/%m/%Y'\) or 2025-03-04 \('%m/%d/%Y'\): set data.timestamp_format to one of these",
        ),
        ("25.04.2025 10:30", r"is not in ISO 8601: set data.timestamp_format to '%d.%m.%Y %H:%M', and data.timezone to its zone"),
        ("2022-05-13T16:50:01", r"has no time zone: it is 1652460601 in UTC, and 1652475001 in New York. Set data.timezone"),
        ("20250403", r"may be 2025-04-03 00:00:00 \(as '%Y%m%d'\): set data.timestamp_format to '%Y%m%d' and data.timezone"),
    ],
)
def test_a_time_with_two_readings_is_refused_with_both_and_the_setting_that_decides(time: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=said):
        read(content(tmp_path, f"user_id,item_id,rating,timestamp\n1,2,4,{time}\n"))


def test_a_number_that_fits_two_units_is_refused_with_both_readings(tmp_path: Path) -> None:
    path = content(tmp_path, "user_id,item_id,rating,timestamp\n1,2,4,50000\n1,3,4,60000\n")
    limits = ValidationSettings(earliest=0)
    with pytest.raises(
        SourceError, match=r"50000 .* 1970-01-01 13:53:20 \(as s\) or 1970-01-01 00:00:50 \(as ms\).*timestamp_format"
    ):
        open_event_file(path, limits, NOW)
    given = reading_for(DataSettings(timestamp_format="s"), resolved_properties(DataSettings(), [path]))
    [chunk] = open_event_file(path, limits, NOW, reading=given).chunks()
    assert chunk.accepted["timestamp"].tolist() == [50000, 60000]


def test_rows_in_another_unit_than_most_are_bad(tmp_path: Path) -> None:
    rows = "1,2,4,1700000000000\n1,3,4,1700000000001\n1,4,4,1700000000\n1,5,4,1700000000000000\n"
    accepted, quarantined, _, _ = read(content(tmp_path, "user_id,item_id,rating,timestamp\n" + rows))
    assert accepted["item_id"].tolist() == [2, 3]
    assert quarantined["reasons"].tolist() == [
        "timestamp is in seconds, not milliseconds",
        "timestamp is in microseconds, not milliseconds",
    ]


def test_five_faults_of_a_file_are_told_at_once_with_the_settings_that_mend_them(tmp_path: Path) -> None:
    data = {
        "columns": {"user": "customer", "timestamp": "at", "weight": "kind"},
        "id_type": {"item": "integer"},
        "weights": {"view": 1},
    }
    path = content(tmp_path, "Customer,item_id,at,kind\nc1,p-1,03/04/2025,view\nc2,p-2,04/05/2025,gift\n")
    with pytest.raises(SourceError) as caught:
        read(path, **data)
    for said in (
        f"data.columns.user is customer, but {path} has no such column; its columns are Customer, item_id, at, kind. Set it to Customer.",
        "lacks the column rating",
        "data.feedback to implicit if events have no rating",
        "03/04/2025",
        "data.timestamp_format to one of these patterns, and data.timezone to its zone",
        "item_id is not a number: 2 of the first 2 rows, first data row 1; set data.id_type.item to text",
        "weight is a kind of event that data.weights does not name: 1 of the first 2 rows, first data row 2; add each kind of event",
    ):
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        ("USERID,MOVIEID,RATING,TIMESTAMP", {}, "Set data.columns.user to USERID, data.columns.item to MOVIEID, data.columns.rating to RATING and"),
        ("visitorid,itemid,score,event_time", {}, "to visitorid, data.columns.item to itemid, data.columns.rating to score and data.columns.timestamp to event_time"),
        ("a,item_id,rating,timestamp", {}, "Name the column of user_id in data.columns, or provide another file."),
        ("sku,sku,rating,timestamp", {"columns": {"user": "sku"}}, "two columns for user_id"),
        ("userId,user_id,rating,timestamp", {}, "two columns for user_id; .* Name one of them in data.columns.user."),
        ("user_id,item_id,rating,timestamp", {"columns": {"rating": "stars"}}, "data.columns.rating is stars, but .* has no such column"),
    ],
)  # fmt: skip
def test_columns_that_are_not_found_are_told_with_the_setting_that_names_them(
    header: str, data: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=said):
        read(content(tmp_path, f"{header}\n1,2,3,1700000000\n"), **data)


def test_a_column_that_is_not_mapped_is_not_read_even_if_it_has_the_name_of_movielens(tmp_path: Path) -> None:
    data = {"columns": {"user": "customer", "item": "sku"}, "feedback": "implicit"}
    path = content(tmp_path, "user_id,customer,sku,item_id,rating,timestamp\n9,1,2,8,x,1700000000\n")
    accepted, quarantined, _, _ = read(path, **data)
    assert accepted[["user_id", "item_id", "rating"]].to_numpy().tolist() == [[1, 2, 1.0]] and not len(quarantined)
    reading = reading_for(DataSettings.model_validate(data), resolved_properties(DataSettings(), [path]))
    assert open_event_file(path, LAX, NOW, reading=reading).extra_columns == ("user_id", "item_id", "rating")


@pytest.mark.parametrize(
    ("users", "kind"),
    [
        (["1", "2", "3"], "integer"),
        (["1", "2", "x"], "integer"),
        (["u1", "u2", "3"], "text"),
        (["007", "008", "009"], "text"),
        (["1", "x"], "text"),
        (["0", "1.0"], "integer"),
    ],
)  # fmt: skip
def test_the_type_of_ids_is_found_in_the_first_rows_of_all_files(users: list[str], kind: str, tmp_path: Path) -> None:
    paths = [
        content(tmp_path, f"user_id,item_id,rating,timestamp\n{user},2,3,1700000000\n", f"{place}.csv")
        for place, user in enumerate(users)
    ]
    assert resolved_properties(DataSettings(), paths).user_ids == kind
    given = DataSettings.model_validate({"id_type": {"user": "text"}})
    assert resolved_properties(given, paths).user_ids == "text"


def test_text_ids_are_refused_by_a_stored_data_set_of_integers(tmp_path: Path) -> None:
    whole = content(tmp_path, "user_id,item_id,rating,timestamp\n1,2,3,1700000000\n", "a.csv")
    texts = content(tmp_path, "user_id,item_id,rating,timestamp\nu1,2,3,1700000000\n", "b.csv")
    stored = resolved_properties(DataSettings(), [whole])
    reading = reading_for(DataSettings(), resolved_properties(DataSettings(), [texts], stored), stored)
    with pytest.raises(SourceError, match=r"user_id of .*b\.csv are text, such as u1, but those of the dataset are integers"):
        open_event_file(texts, LAX, NOW, reading=reading)


def test_one_bad_row_does_not_make_the_others_slow_or_different(tmp_path: Path) -> None:
    rows = [f'"u{user % 300}",p{user % 50},2024-05-01T10:{user % 60:02d}:00Z,view' for user in range(6000)]
    header = "customer,sku,at,kind\n"
    good, _, ids, _ = read(content(tmp_path, header + "\n".join(rows)), **SHOP)
    rows.insert(3000, "u1,p1,2024-05-01T10:00:00Z,view,x")
    found, quarantined, again, _ = read(content(tmp_path, header + "\n".join(rows)), **SHOP)
    assert quarantined["row"].tolist() == [3000] and again == ids
    columns = ["user_id", "item_id", "timestamp", "weight"]
    assert np.array_equal(found[columns].to_numpy(), good[columns].to_numpy())
