"""A survey looks at files of any kind. What is not asked for costs little and stops nothing."""

from __future__ import annotations

import uuid
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import SourceError
from tasks.survey import column_rows, fact_rows, survey_of
from tasks.survey import tables as surveyed_tables
from tests.tasks.surveyed import events_file, proposed, settings_of

ORDINARY = {
    "phone": pa.array([f"+4917{number:06d}" for number in range(800)]),
    "sign": pa.array(["+1.5", "-2."] * 400),
    "session": pa.array([uuid.uuid4().bytes for _ in range(800)], pa.binary(16)),
    "blob": pa.array([b"\xff\xfe\x00"] * 800),
    "nanoseconds": pa.array([1_700_000_000_123_456_789 + number for number in range(800)], pa.timestamp("ns")),
    "far": pa.array([2**62] * 800, pa.timestamp("us")),
    "far seconds": pa.array([2**52] * 800, pa.timestamp("s", tz="UTC")),
    "far times": pa.array([[2**62]] * 800, pa.list_(pa.timestamp("us"))),
    "far day": pa.array([2**31 - 1] * 800, pa.date32()),
    "nothing": pa.array([float("nan")] * 800),
    "half": pa.array(np.full(800, np.inf, np.float16)),
    "weight": pa.array([True, False] * 400),
    "rating": pa.array([True, False] * 400),
    "unsigned": pa.array([2**64 - 1, 1] * 400, pa.uint64()),
    "huge": pa.array(["1e999", "2.5"] * 400),
    "codes": pa.array([b"\xff", b"b"] * 400).dictionary_encode(),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_columns_of_any_kind_are_looked_at(name: str, tmp_path: Path) -> None:
    base = pa.table(pd.read_csv(events_file(tmp_path / "csv")))
    path = tmp_path / "events.parquet"
    pq.write_table(base.append_column(name, ORDINARY[name]), path)
    found = survey_of(path)
    assert len(column_rows(found.events)) == 4 and fact_rows(found)
    assert settings_of(proposed(path), path, tmp_path).data.columns.rating is None
    (tmp_path / "beside").mkdir()
    pq.write_table(pa.table({name: ORDINARY[name]}), tmp_path / "beside" / "other.parquet")
    assert not survey_of(events_file(tmp_path / "beside")).beside


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("s"), pa.date32()])
def test_times_that_no_calendar_has_are_shown_as_numbers(kind: pa.DataType, tmp_path: Path) -> None:
    base = pa.table(pd.read_csv(events_file(tmp_path / "csv"))).drop_columns("timestamp")
    pq.write_table(
        base.append_column(
            "timestamp",
            pa.array([2**31 - 1 if kind == pa.date32() else 2**52 if kind == pa.timestamp("s") else 2**61] * 800, kind),
        ),
        tmp_path / "e.parquet",
    )
    assert any(row["fact"] == "time span" and " s to " in row["value"] for row in fact_rows(survey_of(tmp_path / "e.parquet")))


def test_files_beside_a_surveyed_one_are_looked_at_a_little_and_never_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveyed_tables, "FEW_ROWS", 15)
    path = events_file(tmp_path)
    pd.DataFrame({"item_id": np.arange(20) + 100, "title": "t"}).to_csv(tmp_path / "items.csv", index=False)
    with zipfile.ZipFile(tmp_path / "users.zip", "w") as archive:
        archive.writestr("users.csv", "user_id,age\n1,20\n2,30\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + bytes(50))
    (tmp_path / "latin.csv").write_bytes("item_id,name\n1,\xe9\n".encode("latin-1"))
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    assert survey_of(path).beside == {"items.csv": "items"}
    assert [len(table.cells) for table in surveyed_tables.tables_beside(path)] == [15]


def test_the_files_of_a_folder_share_the_rows_that_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveyed_tables, "MOST_ROWS", 1000)
    monkeypatch.setattr(surveyed_tables, "FEW_ROWS", 50)
    path = events_file(tmp_path)
    for number in range(3):
        (tmp_path / f"more-{number}.csv").write_bytes(path.read_bytes())
    found = survey_of(tmp_path)
    assert [len(table.table.cells) for table in found.tables] == [800, 200, 50, 50] and not found.is_whole


def test_a_damaged_zip_and_a_column_that_occurs_twice_are_said_in_one_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "events.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "x,y\n" * 5000)
    content = bytearray((tmp_path / "events.zip").read_bytes())
    content[60] ^= 0xFF
    content[62] ^= 0x55
    (tmp_path / "events.zip").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        survey_of(tmp_path / "events.zip")
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(SourceError, match="two columns with the same name"):
        survey_of(tmp_path / "twice.parquet")


def test_an_index_without_a_name_is_passed_over(tmp_path: Path) -> None:
    path = events_file(tmp_path / "all").parent
    pd.read_csv(path / "events.csv").to_csv(path / "events.csv", index=True)
    items = pd.DataFrame({"item_id": np.arange(20) + 100, "title": [f"t {n}" for n in range(20)], "price": np.arange(20) % 7})
    items.to_csv(path / "items.csv", index=True)
    assert not proposed(path).blocking
    assert settings_of(proposed(path), path, tmp_path).data.columns_items.attributes == ("price",)


def test_columns_that_events_or_tables_cannot_have_are_not_proposed(tmp_path: Path) -> None:
    base = pa.table(pd.read_csv(events_file(tmp_path / "csv")))
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(base.append_column("event", pa.array([True, False] * 400)), folder / "events.parquet")
    columns = {"item_id": np.arange(20) + 100, "name": [f"t {n}" for n in range(20)]}
    columns |= {"sold": np.arange(20) % 2 == 0, "picture": [b"\xff", b"b"] * 10}
    pq.write_table(pa.table(columns), folder / "items.parquet")
    proposal = proposed(folder)
    assert "weights" not in proposal.yaml(folder) and not any("event may say" in said for said in proposal.open)
    assert settings_of(proposal, folder, tmp_path).data.columns_items.attributes == ("sold",)


@pytest.mark.parametrize("kind", [pa.float64(), pa.decimal128(20, 0)])
def test_whole_numbers_in_columns_of_other_numbers_are_ids(kind: pa.DataType, tmp_path: Path) -> None:
    base = pa.table(pd.read_csv(events_file(tmp_path / "csv"))).drop_columns("user_id")
    path = tmp_path / "events.parquet"
    pq.write_table(base.append_column("customer", pa.array(np.arange(800) // 20).cast(kind)), path)
    assert not proposed(path).blocking and settings_of(proposed(path), path, tmp_path).data.columns.user == "customer"
