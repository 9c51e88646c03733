"""Outcomes are the same from every file format, and are refused in one sentence if they cannot be used."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from configs.errors import SourceError
from infra.storage.local import LocalStore
from serving.experiments import Outcome, StoredOutcomes, all_outcomes, read_outcomes, stored_outcomes
from tests.serving.live import outcomes_file

START = 1_790_000_000


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_outcomes_are_the_same_from_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    times = [1_790_000_000, 1_790_000_060]  # which pandas would take for dates
    frame = pd.DataFrame({"user_id": [1, 2], "timestamp": times, "item_id": [5, 6], "request_id": ["0012", "3"]})
    found = read_outcomes(outcomes_file(frame, tmp_path / f"o{suffix}"))
    assert found.to_dict("list") == {
        "user": ["1", "2"],
        "time": times,
        "item": ["5", "6"],
        "value": [1.0, 1.0],
        "request": ["0012", "3"],
        "kind": ["", ""],
        "key": ["", ""],
    }
    former = read_outcomes(outcomes_file(frame.rename(columns={"item_id": "movie_id"}), tmp_path / f"former{suffix}"))
    assert former.equals(found)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_text_ids_of_items_are_kept_as_they_are_written(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["müller", "b"], "timestamp": [5, 6], "item_id": ["007", "SKU-1.0"]})
    found = read_outcomes(outcomes_file(frame, tmp_path / f"o{suffix}"))
    assert found["item"].tolist() == ["007", "SKU-1.0"] and found["user"].tolist() == ["müller", "b"]


def test_numbers_that_a_gap_turned_into_fractions_are_still_ids(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text("user_id,timestamp,item_id\n1,5,318.0\n2,6,50.0\n")
    assert read_outcomes(path)["item"].tolist() == ["318", "50"]


def test_the_refusal_of_unusable_outcomes_names_the_file_the_column_and_the_row(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    for text, said in (
        ("user_id,when\n1,2\n", "lacks the column timestamp; it has user_id, when"),
        ("user_id,timestamp\n1,2\n1,soon\n", "row 2 of the column timestamp is 'soon'"),
        ("user_id,timestamp,value\n1,2,inf\n", "row 1 of the column value"),
        ("user_id,timestamp\n1,2\n,3\n", "row 2 of the column user_id is empty"),
        ("", "cannot be read as csv"),
        ('{"user_id": 1, "timestamp": 2}\n{"user_id": null, "timestamp": 2}\n', "row 2 of the column user_id is empty"),
        ('{"user_id": 1, "timestamp": 2}\n{"user', "cannot be read as jsonl"),
    ):
        path = path.with_suffix(".jsonl" if text.startswith("{") else ".csv")
        path.write_text(text)
        with pytest.raises(SourceError, match=said):
            read_outcomes(path)
    with pytest.raises(SourceError, match=r"outcomes file .* does not exist"):
        read_outcomes(tmp_path / "none.csv")
    with pytest.raises(SourceError, match=r"give a \.csv"):
        read_outcomes(tmp_path / "o.xlsx")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize(("scale", "unit"), [(1000, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")])
def test_times_in_another_unit_are_refused_and_the_unit_is_named(suffix: str, scale: int, unit: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1, 2], "timestamp": [1_790_000_000, 1_790_000_060 * scale]})
    path = outcomes_file(frame, tmp_path / f"o{suffix}")
    with pytest.raises(SourceError, match=rf"row 2 of the column timestamp .* {unit}.*UTC seconds: divide by {scale:,} \(1 of 2"):
        read_outcomes(path)
    outcomes_file(frame.assign(timestamp=[5, -1]), path)
    with pytest.raises(SourceError, match=r"row 2 of the column timestamp is -1, .*UTC seconds"):
        read_outcomes(path)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata"])
def test_times_of_a_parquet_file_that_carry_their_unit_are_converted(unit: str, zone: str | None, tmp_path: Path) -> None:
    times = pd.Series(pd.to_datetime([1_790_000_000, 1_790_000_060], unit="s", utc=True)).dt.as_unit(unit)  # type: ignore[arg-type]
    times = times.dt.tz_localize(None) if zone is None else times.dt.tz_convert(zone)
    frame = pd.DataFrame({"user_id": [1, 2], "timestamp": times})
    assert read_outcomes(outcomes_file(frame, tmp_path / "o.parquet"))["time"].tolist() == [1_790_000_000, 1_790_000_060]
    frame.loc[1, "timestamp"] = pd.NaT
    with pytest.raises(SourceError, match="row 2 of the column timestamp is empty"):
        read_outcomes(outcomes_file(frame, tmp_path / "o.parquet"))


def reported(user: int, time: int | None = 1_790_000_000, received: int = 1_790_000_100, **more: Any) -> Outcome:
    return Outcome(user, "buy", received, time, **({"item_id": 5} | more))


def store_of(folder: Path, *files: list[Outcome]) -> LocalStore:
    store = LocalStore(folder / "store")
    for number, lines in enumerate(files):
        path = folder / f"{number}.jsonl"
        path.write_bytes(b"".join(each.line() for each in lines))
        store.put_new(f"outcomes/20260922/{number}.jsonl", path)
    return store


def test_an_outcome_that_two_workers_logged_counts_once_as_it_was_first_received(tmp_path: Path) -> None:
    again = reported(1, None, 1_790_000_500, request_id="r1")
    first = reported(1, None, 1_790_000_100, request_id="r1")
    other = reported(1, 1_790_000_000, outcome_id="order-1", value=3.0)
    changed = reported(1, 1_790_000_007, 1_790_000_900, outcome_id="order-1", value=4.0)
    found = stored_outcomes(store_of(tmp_path, [again, other], [changed, first, reported(2)]))
    assert sorted(zip(found["user"], found["time"], found["value"], strict=True)) == [
        ("1", 1_790_000_000, 3.0),
        ("1", 1_790_000_100, 1.0),
        ("2", 1_790_000_000, 1.0),
    ]
    assert stored_outcomes(LocalStore(tmp_path / "none")).empty


def test_a_file_and_the_log_are_read_as_one_and_what_both_have_counts_once(tmp_path: Path) -> None:
    store = store_of(tmp_path, [reported(1), reported(2, outcome_id="a"), reported(3)])
    rows = pd.DataFrame(
        {
            "user_id": [1, 2, 4, 4, 5],
            "timestamp": [1_790_000_000, 1_790_000_009, 1_790_000_000, 1_790_000_000, 1_790_000_000],
            "item_id": [5, 5, 5, 5, 6],
            "outcome_id": [None, "a", "b", "b", None],
        }
    )
    found = all_outcomes(store, outcomes_file(rows, tmp_path / "o.csv"))
    assert sorted(found["user"]) == ["1", "2", "3", "4", "5"] and set(found["kind"]) == {"buy", ""}
    assert all_outcomes(store)["user"].tolist() == ["1", "2", "3"]


def test_the_folder_of_a_log_is_read_as_far_as_its_lines_are_complete(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (log / "a.jsonl").write_bytes(reported(1).line())
    (log / "b.jsonl.open").write_bytes(reported(2, item_id=None, request_id="r").line() + b'{"user_id": 3, "ti')
    found = read_outcomes(log)
    assert found["user"].tolist() == ["1", "2"] and found["item"].tolist() == ["5", ""]
    (log / "c.jsonl").write_text("{nonsense\n")
    with pytest.raises(SourceError, match=r"c\.jsonl is not a file of the outcome log"):
        read_outcomes(log)


def test_who_watches_a_rollout_gets_each_outcome_once_and_reads_each_file_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    outcomes = StoredOutcomes(store)
    assert outcomes(START) is None, "nobody reports outcomes"
    first = {"user_id": 5, "timestamp": START + 9, "received": START + 9, "key": "a"}
    early = {"user_id": "x", "timestamp": START - 9, "received": START - 9, "key": "b"}
    day = f"{datetime.fromtimestamp(START, UTC):%Y%m%d}"
    for number in range(2):  # another worker got the same report
        content = b"".join(json.dumps(line).encode() + b"\n" for line in (first, early))
        store.put_new(f"outcomes/{day}/{day}T000000Z-host-{number}.jsonl", content)
    store.put_new("outcomes/20200101/20200101T000000Z-host-1.jsonl", b"of no rollout, so it is not read\n")
    assert outcomes(START) == [("5", START + 9)] and outcomes(START + 10) == []
    assert outcomes(START - 10) == [("x", START - 9), ("5", START + 9)]
    store.delete(f"outcomes/{day}/{day}T000000Z-host-0.jsonl")
    assert outcomes(START) == [("5", START + 9)]
