"""Files, folders and zips are read by the same rules as a landing zone."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import DataRefusedError, RecsysError, SourceError
from configs.settings import DataSettings, EtlSettings, ValidationSettings
from tasks.ingest import building, ingest, locate
from tasks.ingest.validation import ValidationReport
from tests.tasks.landed import Place

NOW = 1_700_000_000
LAX = ValidationSettings(min_rows=1)
HEADER = "userId,movieId,rating,timestamp\n"
ROWS = "1,10,4,1000000000\n1,11,3.5,1000000060\n2,10,5,1000000120\n"
EVENTS = [(1, 10, 4.0, 10**9), (1, 11, 3.5, 10**9 + 60), (2, 10, 5.0, 10**9 + 120)]
ATOMIC = (
    (HEADER.replace(",", "\t") + ROWS.replace(",", "\t")).replace("userId", "user_id:token").replace("movieId", "item_id:token")
)
ATOMIC = ATOMIC.replace("rating", "rating:float").replace("timestamp", "timestamp:float")
Files = dict[str, bytes]
Found = tuple[list[tuple[float, ...]], dict[int, str]]  # events and titles


def parquet(*tables: pa.Table) -> bytes:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return buffer.getvalue()


def table(rows: list[tuple[float, ...]]) -> pa.Table:
    users, items, ratings, times = zip(*rows, strict=True)
    return pa.table(
        {"userId": pa.array(users, pa.int64()), "movieId": pa.array(items, pa.int64()), "rating": ratings, "timestamp": times}
    )


def put(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def release(path: Path, folder: Path, limits: ValidationSettings = LAX) -> tuple[Found, ValidationReport]:
    source = locate(DataSettings(local_path=path, cache_dir=folder / "cache"))
    with building(source, limits, EtlSettings(work_dir=folder / "work", chunk_rows=2), NOW) as found:
        frame = pd.read_parquet(found.interactions)
        assert frame["row"].is_unique
        return tidy(frame, found.items), found.report


def tidy(events: pd.DataFrame, items: pd.DataFrame) -> Found:
    rows = events[["user_id", "item_id", "rating", "timestamp"]].itertuples(index=False, name=None)
    return sorted(rows), {int(item): title for item, title in zip(items["item_id"], items["title"], strict=True) if title}


def of_folder(files: Files, folder: Path) -> Found:
    return release(put(folder / "data", files), folder)[0]


def of_zip(files: Files, folder: Path) -> Found:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "data.bin", "w") as archive:  # a zip is recognised by its content
        for name, content in files.items():
            archive.writestr(f"inside/{name}", content)
    return release(folder / "data.bin", folder)[0]


def of_zone(files: Files, folder: Path) -> Found:
    place = Place(folder / "landed", settle_s=0, give_up_s=0)
    for name, content in files.items():
        place.put(name, content)
    landed = place.land()
    refused = [account.why for account in landed.accounts if account.status == "quarantined"]
    if refused:
        raise SourceError(" ".join(refused))
    return tidy(place.table(landed.dataset), place.table(landed.dataset, "items"))


WAYS = pytest.mark.parametrize("way", [of_folder, of_zip, of_zone])
FORMATS: dict[str, Files] = {
    "csv": {"events.csv": (HEADER + ROWS).encode()},
    "upper case": {"RATINGS.CSV": (HEADER + ROWS).encode()},
    "another name": {"events.txt": (HEADER + ROWS).encode()},
    "tsv": {"events.tsv": (HEADER + ROWS).replace(",", "\t").encode()},
    "semicolons": {"events.csv": (HEADER + ROWS).replace(",", ";").encode()},
    "gzip": {"events.CSV.GZ": gzip.compress((HEADER + ROWS).encode())},
    "gzip of no name": {"events.csv": gzip.compress((HEADER + ROWS).encode())},
    "no gzip though named so": {"events.csv.gz": (HEADER + ROWS).encode()},
    "byte order mark": {"events.csv": b"\xef\xbb\xbf" + (HEADER + ROWS).encode()},
    "parquet": {"events.Parquet": parquet(table(EVENTS))},
    "parquet of no name": {"part-00000": parquet(table(EVENTS))},
    "empty row groups": {
        "events.parquet": parquet(*(table(EVENTS).slice(*cut) for cut in ((0, 0), (0, 2), (2, 0), (2, 1), (3, 0))))
    },
    "spark": {
        "out.parquet/_SUCCESS": b"",
        "out.parquet/part-0.snappy.parquet": parquet(table(EVENTS[:1])),
        "out.parquet/part-1.snappy.parquet": parquet(table(EVENTS[1:])),
    },
    "atomic": {"shop.INTER": ATOMIC.encode()},
    "u.data": {"U.DATA": ROWS.replace(",", "\t").encode()},
    "ratings.dat": {"ratings.dat": ROWS.replace(",", "::").encode()},
    "two files": {"a.csv": (HEADER + ROWS[:18]).encode(), "b/c.csv": (HEADER + ROWS[18:]).encode()},
    "hidden files": {
        "events.csv": (HEADER + ROWS).encode(),
        "._events.csv": b"\x00\x05\x16\x07\x1b[31m",
        ".hidden/events.csv": b"x",
        "__MACOSX/._events.csv": b"x",
        "_temporary/events.csv": (HEADER + "9,9,1,1000000000\n").encode(),
        "more.csv.tmp": b"x",
    },
    "pre-split": {
        f"shop.{part}.inter": (ATOMIC.split("\n")[0] + "\n" + ATOMIC.split("\n")[row] + "\n").encode()
        for row, part in ((1, "train"), (2, "valid"), (3, "test"))
    },
}


@WAYS
@pytest.mark.parametrize("form", FORMATS)
def test_every_form_is_read_from_a_folder_a_zip_and_a_zone(
    form: str, way: Callable[[Files, Path], Found], tmp_path: Path
) -> None:
    assert way(FORMATS[form], tmp_path)[0] == EVENTS


@pytest.mark.parametrize("form", [form for form, files in FORMATS.items() if len(files) == 1])
def test_a_single_file_gives_the_same_events_as_its_folder(form: str, tmp_path: Path) -> None:
    ((name, content),) = FORMATS[form].items()
    path = put(tmp_path, {name: content}) / name
    assert release(path, tmp_path)[0][0] == EVENTS
    assert ingest(DataSettings(local_path=path)).tables.interactions.astype(float).to_numpy().tolist() == [
        [*row] for row in EVENTS
    ]


DESCRIPTIONS: dict[str, Files] = {
    "csv": {"films.csv": "movieId,title,genres\n10,Été (1995),Drama\n11,Heat,Crime\n".encode()},
    "semicolons": {"films.csv": "movieId;title;genres\n10;Été (1995);Drama\n11;Heat;Crime\n".encode()},
    "tabs": {"FILMS.TSV": "movieId\ttitle\tgenres\n10\tÉté (1995)\tDrama\n11\tHeat\tCrime\n".encode()},
    "byte order mark": {"films.csv": "\ufeffmovieId,title\n10,Été\n11,Heat\n".encode()},
    "gzip": {"films.csv.gz": gzip.compress("movieId,title\n10,Été\n11,Heat\n".encode())},
    "parquet": {"films.parquet": parquet(pa.table({"movieId": [10, 11], "title": ["Été", "Heat"]}))},
    "two files": {"a.csv": "movieId,title\n10,Été\n".encode(), "b.csv": b"movieId,title\n11,Heat\n"},
    "atomic": {"events.item": "item_id:token\tmovie_title:token_seq\n10\tÉté\n11\tHeat\n".encode()},
}


@WAYS
@pytest.mark.parametrize("form", DESCRIPTIONS)
def test_descriptions_of_every_form_are_read_from_a_folder_a_zip_and_a_zone(
    form: str, way: Callable[[Files, Path], Found], tmp_path: Path
) -> None:
    found = way({"events.csv": (HEADER + ROWS).encode(), **DESCRIPTIONS[form]}, tmp_path)
    assert found == (EVENTS, {10: "Été", 11: "Heat"})


@WAYS
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("films.csv", "movieId,title\n10,Été\n".encode("latin-1"), r"films\.csv describes items, .* not written in UTF-8: line 2"),
        ("films.csv", "movieId;title\n10;Été\n".encode("latin-1"), r"films\.csv describes items, .* not written in UTF-8: line 2"),
        ("films.csv", "movieId,title\n10,Été\n".encode("utf-16"), r"films\.csv is written in UTF-16\. Save it as UTF-8"),
        ("films.csv", "movieId,title\n10,Heat\n".encode("utf-16-le"), r"films\.csv is written in UTF-16LE\. Save it"),
        ("more.csv", (HEADER + ROWS).encode("utf-16"), r"more\.csv is written in UTF-16\. Save it as UTF-8"),
        ("more.csv", (HEADER + ROWS).encode("utf-16-be"), r"more\.csv is written in UTF-16BE\. Save it"),
        ("more.csv", b"BZh91AY&SY" + b"x" * 50, r"more\.csv is compressed by bzip2\. Unpack it"),
        ("more.csv", b"PK\x03\x04" + b"x" * 50, r"more\.csv is a zip, perhaps an Excel workbook"),
        ("more.csv", b"userId,movieId,timestamp\n1,2,1000000000\n", r"more\.csv lacks the column rating; .*Set data\.feedback to implicit if events have no rating"),
        ("more.csv", b"1,2,3.5,1000000000\n", r"more\.csv lacks .* Its first line is not a header: add userId,movieId"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named_with_the_remedy(
    name: str, content: bytes, said: str, way: Callable[[Files, Path], Found], tmp_path: Path
) -> None:
    with pytest.raises(RecsysError, match=said):
        way({"events.csv": (HEADER + ROWS).encode(), name: content}, tmp_path)


def test_other_tables_of_a_folder_are_passed_over_with_a_reason(tmp_path: Path) -> None:
    files = {"events.csv": HEADER + ROWS, "tags.csv": "userId,movieId,tag,timestamp\n", "prices.csv": "sku,price\n1,2\n"}
    found = locate(DataSettings(local_path=put(tmp_path, {name: text.encode() for name, text in files.items()})))
    assert list(found.files.passed_over) == ["prices.csv"] and "lacks the column" in found.files.passed_over["prices.csv"]


def test_files_that_come_with_a_release_are_not_read_as_events(tmp_path: Path) -> None:
    rows = ROWS.replace(",", "\t")
    put(tmp_path, {"u.data": rows.encode(), "u1.base": rows[:18].encode(), "README": b"A text.\n", "mku.sh": b"#!/bin/sh\n"})
    found = locate(DataSettings(local_path=tmp_path)).files
    assert [path.name for path in found.all] == ["u.data"] and not found.passed_over


def test_two_releases_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    put(tmp_path, {"ml-1m/ratings.dat": ROWS.replace(",", "::").encode(), "ml-100k/u.data": ROWS.replace(",", "\t").encode()})
    with pytest.raises(SourceError, match=r"holds several releases \(ml-100k/u\.data, ml-1m/ratings\.dat\)"):
        locate(DataSettings(local_path=tmp_path))


@WAYS
def test_a_repeat_is_a_duplicate_and_the_newest_event_counts(way: Callable[[Files, Path], Found], tmp_path: Path) -> None:
    again = "1,10,2,1000000500\n1,10,3,1000000400\n2,10,4.5,1000000120\n"
    for files in ({"a.csv": HEADER + ROWS + again}, {"a.csv": HEADER + ROWS, "b.csv": HEADER + again}):
        found, _ = way({name: text.encode() for name, text in files.items()}, tmp_path / str(len(files)))
        # Of two events of one second, in one file or in two of the same age, the one with the higher rating counts.
        assert found == [(1, 10, 2.0, 10**9 + 500), EVENTS[1], (2, 10, 5.0, 10**9 + 120)]


def test_repeats_are_counted_apart_from_bad_rows(tmp_path: Path) -> None:
    path = put(tmp_path, {"a.csv": (HEADER + ROWS * 5 + "1,12,9,1000000000\n").encode()})
    _, report = release(path, tmp_path / "x", ValidationSettings(min_rows=3, max_quarantined_share=0.1))
    account = report.tables["interactions"]
    assert (account.rows, account.accepted, account.duplicates, account.quarantined) == (16, 3, 12, 1)
    with pytest.raises(DataRefusedError, match=r"3 of 16 interactions are valid \(12 more are duplicates\)"):
        release(path, tmp_path / "x", ValidationSettings(min_rows=4, max_quarantined_share=0.1))


@WAYS
@pytest.mark.parametrize("form", ["csv", "missing cells", "decimal cells", "parquet", "parquet with missing cells", "decimals"])
def test_ids_are_exact_up_to_the_largest(form: str, way: Callable[[Files, Path], Found], tmp_path: Path) -> None:
    ids = [76561197960265729, 76561197960265730, 2**53 + 1, 2**63 - 1]
    rows = [(user, user - 2, 3.0, 10**9) for user in ids]
    text = HEADER + "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in rows)
    plain, one = table(rows), pa.array([None], pa.int64())
    gap = pa.table({**{name: pa.concat_arrays([plain[name].combine_chunks(), one]) for name in ("userId", "movieId", "timestamp")},
                    "rating": [*[3.0] * len(rows), 3.0]})  # fmt: skip
    decimals = plain.set_column(0, "userId", plain["userId"].cast(pa.decimal128(20, 0)))
    content = {
        "csv": text.encode(),
        "missing cells": (text + ",5,3,1000000000\n6,,3,1000000000\n").encode(),
        "decimal cells": (text + "7.0,5.0,3,1000000000.0\n").encode(),
        "parquet": parquet(plain),
        "parquet with missing cells": parquet(gap),
        "decimals": parquet(decimals),
    }[form]
    if form.endswith("missing cells") and way is not of_zone:
        path = put(tmp_path / "data", {"events.csv": content}) / "events.csv"
        found = release(path, tmp_path, ValidationSettings(min_rows=1, max_quarantined_share=0.9))[0]
    else:
        found = way({"events.csv": content}, tmp_path)
    assert [row for row in found[0] if row[0] != 7] == sorted(rows)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("76561197960265729.0,2,3,1000000000", "user_id is a decimal number whose last digits are lost"),
        ("7.65612e+16,2,3,1000000000", "user_id is a decimal number whose last digits are lost"),
        ("1,9.78031E+12,3,1000000000", "item_id is in scientific notation, which dropped its last digits"),
        ("1,2,3,1.65020e+09", "timestamp is in scientific notation.*: 1 rows, first data row 4 .*: write all digits: options"),
        ("1,2,3,1.65E+9", "timestamp is in scientific notation"),
        ("1,2,3,1000000000000", "timestamp is in milliseconds, not seconds.*: divide it by 1,000"),
        ("1,2,3,1000000000000000", "timestamp is in microseconds, not seconds.*: divide it by 1,000,000"),
        ("1,2,3,1000000000000000000", "timestamp is in nanoseconds, not seconds"),
        ("1,2,30,1000000000", "rating is outside 0.5 to 5.*: set validation.min_rating and validation.max_rating"),
        ("u-1,2,3,1000000000", "user_id is not a number.*: set data.id_type.user to text"),
        ("1,2,3,2022-05-13T16:41:00Z", "timestamp is not a number.*: set data.timestamp_format to how they are written"),
        ("1,2,3,5", "timestamp lies before .*: lower validation.earliest"),
    ],
)
def test_the_error_names_a_fault_with_its_remedy(row: str, said: str, tmp_path: Path) -> None:
    path = put(tmp_path, {"a.csv": f"{HEADER}{ROWS}{row}\n".encode()}) / "a.csv"
    with pytest.raises(DataRefusedError, match=said):
        release(path, tmp_path)


def test_numbers_that_keep_their_digits_in_scientific_notation_are_read(tmp_path: Path) -> None:
    path = put(tmp_path, {"a.csv": f"{HEADER}1e+05,2,3,1.000000000e+09\n".encode()}) / "a.csv"
    assert release(path, tmp_path)[0][0] == [(100_000, 2, 3.0, 10**9)]


def test_the_error_names_all_faults_of_a_file_at_once(tmp_path: Path) -> None:
    row = "u-1,p-2,9,2022-05-13T16:41:00Z\n"
    files = {"a.csv": HEADER + ROWS, "b.csv": HEADER + ROWS + row * 2}
    with pytest.raises(DataRefusedError) as told:
        release(put(tmp_path / "data", {name: text.encode() for name, text in files.items()}), tmp_path)
    for said in ("user_id is not a number: 2 rows, first data row 4 of b.csv", "item_id is", "rating is outside", "timestamp is"):
        assert said in str(told.value)
    text = "customer_id,sku,stars,occurred_at\n" + row
    with pytest.raises(
        SourceError,
        match=r"Set data\.columns\.user to customer_id, data\.columns\.item to sku, data\.columns\.rating to stars and "
        r"data\.columns\.timestamp to occurred_at",
    ):
        release(put(tmp_path / "other", {"a.csv": text.encode()}) / "a.csv", tmp_path)
    text = "userId,movieId,rating,when\n" + row
    with pytest.raises(
        SourceError, match=r"lacks the column timestamp.*Set data\.columns\.timestamp to when\..*Also: rating is outside"
    ):
        release(put(tmp_path / "more", {"a.csv": text.encode()}) / "a.csv", tmp_path)


def test_a_bad_row_among_several_files_is_kept_with_the_name_of_its_file(tmp_path: Path) -> None:
    put(tmp_path / "data", {"1/a.csv": (HEADER + ROWS).encode(), "2/a.csv": (HEADER + ROWS + "1,2,9,1000000000\n").encode()})
    source = locate(DataSettings(local_path=tmp_path / "data"))
    limits = ValidationSettings(min_rows=1, max_quarantined_share=0.5)
    with building(source, limits, EtlSettings(work_dir=tmp_path / "work"), NOW) as found:
        assert found.quarantined[["file", "row"]].to_numpy().tolist() == [["2/a.csv", 3]]


def test_times_that_a_short_float_rounded_are_refused(tmp_path: Path) -> None:
    short = table(EVENTS).set_column(3, "timestamp", pa.array(np.array([row[3] for row in EVENTS], np.float32)))
    path = put(tmp_path, {"a.parquet": parquet(short)}) / "a.parquet"
    with pytest.raises(DataRefusedError, match=r"timestamp is a decimal number whose last digits are lost: 3 rows.*as int64"):
        release(path, tmp_path)


@pytest.mark.parametrize("year", ["1995.5", "x"])
def test_an_impossible_year_counts_as_missing(year: str, tmp_path: Path) -> None:
    item = f"item_id:token\tmovie_title:token_seq\trelease_year:token\n10\tHeat\t{year}\n".encode()
    path = put(tmp_path, {"shop.inter": ATOMIC.encode(), "shop.item": item}) / "shop.inter"
    assert release(path, tmp_path)[0][1] == {10: "Heat"}
    items = ingest(DataSettings(local_path=path)).tables.items
    assert items is not None and items["year"].isna().all()


def test_the_limit_on_future_times_applies_to_the_descriptions_of_a_release(tmp_path: Path) -> None:
    films = f"movieId,title,updated_at\n10,Heat,{NOW + 90_000}\n11,Alien,{NOW}\n"
    path = put(tmp_path / "data", {"events.csv": (HEADER + ROWS).encode(), "films.csv": films.encode()})
    assert release(path, tmp_path)[0][1] == {11: "Alien"}
    found, report = release(path, tmp_path, ValidationSettings(min_rows=1, max_future_s=100_000))
    assert found[1] == {10: "Heat", 11: "Alien"} and report.tables["items"].quarantined == 0
