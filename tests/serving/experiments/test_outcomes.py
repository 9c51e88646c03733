"""Outcomes are the same from every file format, and are refused in one sentence if they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from configs.errors import SourceError
from serving.experiments import read_outcomes
from tests.serving.live import outcomes_file


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
