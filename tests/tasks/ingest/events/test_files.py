from __future__ import annotations

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import SourceError
from configs.settings import ValidationSettings
from tasks.ingest import EventReading, open_event_file
from tasks.ingest.events import files as event_files
from tasks.ingest.events import text as event_text
from tests import synthetic

NOW = 1_700_000_000
SETTINGS = ValidationSettings()
HEADER = "userId,movieId,rating,timestamp\n"
GOOD = "1,2,3.5,1000000000\n"


def read(path: Path, chunk_rows: int = 1_000_000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (accepted, quarantined) of all chunks, and check that each chunk's rows add up."""
    chunks = list(open_event_file(path, SETTINGS, NOW, chunk_rows).chunks())
    for chunk in chunks:
        assert chunk.rows == len(chunk.accepted) + len(chunk.quarantined) > 0
        assert chunk.accepted.dtypes.astype(str).to_list() == ["int64", "int64", "float64", "int64", "int64"]
    accepted = pd.concat([chunk.accepted for chunk in chunks], ignore_index=True)
    quarantined = pd.concat([chunk.quarantined for chunk in chunks], ignore_index=True)
    assert sorted([*accepted["row"], *quarantined["row"]]) == list(range(sum(chunk.rows for chunk in chunks)))
    return accepted, quarantined


def content(tmp_path: Path, text: str | bytes, name: str = "events.csv") -> Path:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


@pytest.mark.parametrize("write", [synthetic.write_csv, synthetic.write_dat, synthetic.write_u_data, synthetic.write_atomic])
@pytest.mark.parametrize("chunk_rows", [1_000_000, 200])
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_events_in_file_order(
    write: Callable[[Path, pd.DataFrame], Path], chunk_rows: int, packed: bool, tmp_path: Path
) -> None:
    frame = synthetic.interactions(60, 40, 25)
    path = write(tmp_path, frame)
    if packed:
        path = content(tmp_path, gzip.compress(path.read_bytes(), mtime=0), path.name + ".gz")
    accepted, quarantined = read(path, chunk_rows)
    assert len(quarantined) == 0
    pd.testing.assert_frame_equal(accepted.drop(columns="row"), frame.astype({"rating": float}))
    assert (accepted["row"] == np.arange(len(frame))).all()


@pytest.mark.parametrize("write", [synthetic.write_csv, synthetic.write_dat, synthetic.write_u_data, synthetic.write_atomic])
def test_the_rating_of_every_format_is_not_read_if_events_have_none(
    write: Callable[[Path, pd.DataFrame], Path], tmp_path: Path
) -> None:
    frame = synthetic.interactions(60, 40, 25)
    file = open_event_file(write(tmp_path, frame), SETTINGS, NOW, reading=EventReading(has_rating=False))
    accepted = pd.concat([chunk.accepted for chunk in file.chunks()], ignore_index=True)
    pd.testing.assert_frame_equal(accepted.drop(columns="row"), frame.assign(rating=1.0))
    assert file.extra_columns == ("rating",) and len(file.raw()) == len(frame)


@pytest.mark.parametrize("chunk_rows", [1_000_000, 7])
def test_parquet_of_any_number_type_is_read(chunk_rows: int, tmp_path: Path) -> None:
    frame = synthetic.interactions(10, 20, 8)
    times = pd.to_datetime(frame["timestamp"], unit="s", utc=True)
    columns = {
        "timestamp": pa.array(times).cast(pa.timestamp("ms")),
        "rating": pa.array([Decimal(value) for value in frame["rating"]]),
        "item_id": pa.array(frame["item_id"].astype(str)).dictionary_encode(),
        "userId": pa.array(frame["user_id"], pa.uint16()),
        "device": pa.array(["phone"] * len(frame)),
    }
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    assert open_event_file(tmp_path / "events.parquet", SETTINGS, NOW).extra_columns == ("device",)
    accepted, quarantined = read(tmp_path / "events.parquet", chunk_rows)
    assert len(quarantined) == 0
    pd.testing.assert_frame_equal(accepted.drop(columns="row"), frame.astype({"rating": float}))


def test_missing_and_bad_cells_of_parquet_are_quarantined(tmp_path: Path) -> None:
    columns = {
        "user_id": pa.array([1, None, 3, 4]),
        "item_id": pa.array(["1", "2", "x", "4"]),
        "rating": pa.array([1.0, 2.0, 3.0, float("nan")], pa.float32()),
        "timestamp": pa.array([10**9] * 4, pa.int32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    accepted, quarantined = read(tmp_path / "events.parquet")
    assert list(accepted["row"]) == [0]
    assert list(quarantined["reasons"]) == ["user_id is missing", "item_id is not a number", "rating is missing"]


def test_columns_may_come_in_any_order_and_extra_ones_are_named(tmp_path: Path) -> None:
    path = content(
        tmp_path, 'device,rating,movieId,comment,timestamp,userId\nphone,4.5,7,"a, b",1000000000,3\n,4,8,é,1000000001,3\n'
    )
    assert open_event_file(path, SETTINGS, NOW).extra_columns == ("device", "comment")
    accepted, quarantined = read(path)
    assert accepted.to_numpy().tolist() == [[3, 7, 4.5, 10**9, 0], [3, 8, 4.0, 10**9 + 1, 1]] and len(quarantined) == 0


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_header_decides_the_separator_of_a_csv(separator: str, tmp_path: Path) -> None:
    accepted, quarantined = read(content(tmp_path, (HEADER + GOOD).replace(",", separator)))
    assert accepted.to_numpy().tolist() == [[1, 2, 3.5, 10**9, 0]] and len(quarantined) == 0


@pytest.mark.parametrize("first", ["5\t\t25\t\t4\t\t1000000000", "5\t25\t4\t1000000000", "5|25|4|1000000000"])
def test_a_first_row_with_other_separators_is_the_only_one_that_is_quarantined(first: str, tmp_path: Path) -> None:
    rows = "".join(f"{user}::2::3.5::1000000000\n" for user in (1, 2, 3))
    accepted, quarantined = read(content(tmp_path, f"{first}\n{rows}", "ratings.dat"))
    assert list(accepted["user_id"]) == [1, 2, 3] and list(quarantined["row"]) == [0]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("chunk_rows", [1_000_000, 1])
def test_any_line_end_blank_lines_and_a_byte_order_mark_are_read(ends: str, chunk_rows: int, tmp_path: Path) -> None:
    rows = "".join(f"{user},2,3.5,1000000000\n{'  ' if user == 300 else ''}\n" for user in range(1, 600))
    accepted, quarantined = read(content(tmp_path, ("\ufeff\n" + HEADER + rows).replace("\n", ends)), chunk_rows)
    assert list(accepted["user_id"]) == list(range(1, 600)) and len(quarantined) == 0


def test_a_mixture_of_line_ends_is_read(tmp_path: Path) -> None:
    accepted, _ = read(
        content(tmp_path, HEADER.strip() + "\r\n1,2,3,1000000000\r2,2,3,1000000000\n3,2,3,1000000000\r\n\r4,2,3,1000000000")
    )
    assert list(accepted["user_id"]) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("line", "reason", "cells"),
    [
        ("x3,2,3,1000000000", "user_id is not a number", "x3 | 2 | 3 | 1000000000"),
        ("1,2,9.0,1000000000", "rating is outside 0.5 to 5", "1 | 2 | 9.0 | 1000000000"),
        ("1,2,,1000000000", "rating is missing", "1 | 2 |  | 1000000000"),
        ("1,2,inf,1000000000", "rating is not a number", "1 | 2 | inf | 1000000000"),
        ("0x1A,2,3,1000000000", "user_id is not a number", "0x1A | 2 | 3 | 1000000000"),
        ("1,2.5,3,1000000000", "item_id is not a whole number", "1 | 2.5 | 3 | 1000000000"),
        ("9223372036854775808,2,3,1000000000", "user_id is too large", "9223372036854775808 | 2 | 3 | 1000000000"),
        ("1,2,3,1000000000000", "timestamp is in milliseconds, not seconds", "1 | 2 | 3 | 1000000000000"),
        ("1,2,3", "the row has 3 cells, not 4", "1 | 2 | 3"),
        ("1,2,3,1000000000,", "the row has 5 cells, not 4", "1 | 2 | 3 | 1000000000 | "),
        ('1,"2,3,1000000000', "the row has 2 cells, not 4", "1 | 2,3,1000000000"),
        ("1,2,\x00,1000000000", "rating is not a number", "1 | 2 | \x00 | 1000000000"),
        ("userId,movieId,rating,timestamp", "user_id is not a number", "userId | movieId | rating | timestamp"),
        ("1,2," + "3" * 100_000 + ",1000000000", "rating is not a number", "1 | 2 | " + "3" * 200 + " | 1000000000"),
    ],
)
def test_a_bad_row_is_quarantined_as_it_was_written_and_its_neighbours_are_kept(
    line: str, reason: str, cells: str, tmp_path: Path
) -> None:
    accepted, quarantined = read(content(tmp_path, HEADER + GOOD + line + "\n" + GOOD))
    assert list(accepted["row"]) == [0, 2] and (accepted["rating"] == 3.5).all()
    assert quarantined.iloc[0].to_list()[:1] == [1] and quarantined["cells"][0] == cells
    assert reason in quarantined["reasons"][0].split("; ")


def test_bad_rows_do_not_cost_any_of_the_good_rows_around_them(tmp_path: Path) -> None:
    rows = [f"{user},{user % 50},3.5,{10**9 + user}" for user in range(1, 12_001)]
    for place in (0, 3000, 7000, 11_999):
        rows[place] += ",7"
    accepted, quarantined = read(content(tmp_path, HEADER + "\n".join(rows)))
    assert list(quarantined["row"]) == [0, 3000, 7000, 11_999] and len(accepted) == 11_996
    assert (accepted["user_id"] == accepted["row"] + 1).all()
    quoted = ['"' + row.replace(",", '","') + '"' for row in rows]
    again, _ = read(content(tmp_path, HEADER + "\r\n".join(quoted)))
    pd.testing.assert_frame_equal(again, accepted)


def test_a_row_that_is_longer_than_a_block_of_the_fast_parser_is_read(tmp_path: Path) -> None:
    others = "".join(f"{user},2,3.5,1000000000,\n" for user in range(2, 1000))
    long = f"1,2,3.5,1000000000,{'x' * 9_000_000}\n"
    accepted, quarantined = read(content(tmp_path, f"{HEADER.strip()},comment\n{others}{long}{others}"))
    assert list(accepted["row"]) == list(range(2 * 998 + 1)) and accepted["user_id"][998] == 1 and len(quarantined) == 0


@pytest.mark.parametrize("character", ["x", "\U0001f600"])
def test_rows_about_as_long_as_a_block_of_the_fast_parser_are_read(
    character: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_text, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(event_text, "LONGEST_PLAIN", 1024)
    lengths = [*range(900, 1100), *range(4000, 4200)]
    rows = "".join(f"{length},2,3.5,1000000000,{character * length}\n" for length in lengths)
    accepted, quarantined = read(content(tmp_path, f"{HEADER.strip()},comment\n{rows}x,2,3,1000000000,\n"))
    assert list(accepted["user_id"]) == lengths and len(quarantined) == 1


def test_a_row_with_bytes_that_are_not_utf8_is_quarantined_with_replacement_characters(tmp_path: Path) -> None:
    accepted, quarantined = read(content(tmp_path, HEADER.encode() + b"1,2,3,1000000000\n\xff\xfe,2,3,1000000000\n"))
    assert list(accepted["row"]) == [0] and list(quarantined["cells"]) == ["\ufffd\ufffd | 2 | 3 | 1000000000"]


def test_quoted_cells_and_other_ways_to_write_numbers_are_read(tmp_path: Path) -> None:
    accepted, _ = read(
        content(
            tmp_path,
            HEADER + '"1","2","3.5","1000000000"\n 1 ,+2,.5,1.000000000e9\n1.0,2.0,3,1000000000.0\n007,2,4.,1000000000\n',
        )
    )
    assert accepted["user_id"].to_list() == [1, 1, 1, 7] and accepted["rating"].to_list() == [3.5, 0.5, 3.0, 4.0]
    assert (accepted["timestamp"] == 10**9).all() and (accepted["item_id"] == 2).all()


CELL = st.sampled_from(
    ["1", "2", "-3", "", "NA", "x", "0x1F", "3.5", "1.0", " 4 ", "+5", "1e2", "inf", "-inf", "9" * 17, "9" * 30, "1_0", "5\x00", "é", "1d3", '"6"', '"', '"7', '8"', '"9"1', '""', 'a"b', '"1,2"', "True"]
)  # fmt: skip


LAST_CELL = st.sampled_from(["1000000000", "1e9", "-1", "x", "9999999999999"])


@pytest.mark.full
@given(rows=st.lists(st.tuples(CELL, CELL, CELL, LAST_CELL), min_size=1, max_size=6), quoted=st.booleans())
def test_a_row_is_judged_the_same_whatever_its_neighbours_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], quoted: bool
) -> None:
    """The fast and the tolerant parser agree. So a neighbour that only the tolerant one reads changes nothing."""
    folder = tmp_path_factory.mktemp("rows")
    texts = [",".join(row) for row in rows]
    fitting = '1,"2",3,1000000000' if quoted else "1,2,3,1000000000"
    together, _ = read(content(folder, HEADER + "\n".join([fitting, *texts, fitting]) + "\n"))
    for number, text in enumerate(texts, 1):
        try:
            alone, _ = read(content(folder, HEADER + text + "\n"))
        except SourceError:  # no row of the file has four cells
            alone = together.iloc[:0]
        columns = ["user_id", "item_id", "rating", "timestamp"]
        assert alone[columns].to_numpy().tolist() == together.loc[together["row"] == number, columns].to_numpy().tolist()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("events.txt", GOOD, r"events\.txt lacks .* Its first line is not a header: add user_id,item_id,rating,timestamp"),
        ("events.csv", "", r"events\.csv is empty"),
        ("events.csv", "user,movieId,rating,when\n1,2,3,4\n", "lacks the columns userId, timestamp; its columns are user, movieId, rating, when"),
        ("events.csv", "userId,user_id,movieId,rating,timestamp\n1,9,2,3,900000000\n", "two columns for user_id"),
        ("events.csv", "\ufeff".encode("utf-16") + HEADER.encode("utf-16"), "UTF-16"),
        ("events.csv", HEADER + "1,2,3,900000000,\n4,5,3,900000001,\n", r"have 5 fields, but there are 4 columns: user_id, item_id, rating"),
        ("events.csv", b"\x00" * 70_000, "no line end in its first"),
        ("events.csv", "a" * 500 + "," + "b," * 500 + "\n1\n", "and 482 more"),
        ("ratings.dat", "1::2::3::900000000::7\n", "have 5 fields"),
        ("u.data", "1\t2\t3\n", "have 3 fields"),
        ("x.inter", "user_id:token\titem_id:token\n1\t2\n", "lacks the columns rating, timestamp"),
        ("events.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"no gzip" * 9, r"events\.csv\.gz is damaged, or not compressed by gzip"),
        ("events.csv.gz", gzip.compress((HEADER + GOOD).encode(), mtime=0)[:-9], "cut short"),
        ("events.parquet", "no parquet", r"events\.parquet is not a Parquet file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_an_event_file_is_named_with_the_remedy(
    name: str, text: str | bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=said):
        read(content(tmp_path, text, name))


def test_a_parquet_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1], "item_id": [1], "rating": [[1.0]], "timestamp": [10**9]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"column rating of .* holds list<"):
        open_event_file(tmp_path / "a.parquet", SETTINGS, NOW)
    pq.write_table(pa.table({"user_id": [1], "userId": [1], "rating": [1.0], "timestamp": [10**9]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match="two columns for user_id"):
        open_event_file(tmp_path / "b.parquet", SETTINGS, NOW)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"{name} is missing"):
        open_event_file(tmp_path / name, SETTINGS, NOW)


def test_a_parquet_file_with_damaged_pages_is_named_with_the_row(tmp_path: Path) -> None:
    frame = synthetic.interactions(60, 40, 25)
    frame.to_parquet(tmp_path / "a.parquet", index=False, compression="zstd")
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    damaged[4:400] = b"\xff" * 396
    with pytest.raises(SourceError, match=r"a\.parquet is damaged after row 0"):
        read(content(tmp_path, bytes(damaged), "a.parquet"))


def test_a_gzip_that_is_cut_short_gives_the_rows_before_the_cut_and_then_the_error(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{user},{user % 7},3.5,{10**9 + user * 7919 % 10**6}\n" for user in range(20_000))
    path = content(tmp_path, gzip.compress(text.encode(), mtime=0)[:-5000], "a.csv.gz")
    chunks = open_event_file(path, SETTINGS, NOW, chunk_rows=3000).chunks()
    assert (next(chunks).accepted["user_id"].head(3) == [0, 1, 2]).all()
    with pytest.raises(SourceError, match=r"a\.csv\.gz is cut short"):
        list(chunks)


def test_a_header_without_rows_has_no_chunks(tmp_path: Path) -> None:
    assert list(open_event_file(content(tmp_path, HEADER), SETTINGS, NOW).chunks()) == []


def test_a_row_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_files, "LONGEST_ROW", 50_000)
    with pytest.raises(SourceError, match="a row of more than 50,000 bytes"):
        read(content(tmp_path, HEADER + GOOD + "1" * 120_000), chunk_rows=100)
