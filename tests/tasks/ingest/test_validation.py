from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import DataRefusedError
from configs.settings import ValidationSettings
from tasks.ingest.movielens import RawTables
from tasks.ingest.sources import files_of_folder, read_tables
from tasks.ingest.validation import TableReport, ValidationReport, validate
from tests import synthetic

NOW = 1_700_000_000
LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)


def raw(frame: pd.DataFrame, items: pd.DataFrame | None = None, users: pd.DataFrame | None = None) -> RawTables:
    return RawTables(frame, items, users, ())


def with_cell(column: str, value: object) -> pd.DataFrame:
    frame = synthetic.interactions(20, 30, 10).astype({column: object})
    frame.loc[7, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("user_id", "abc", "user_id is not a number"),
        ("item_id", None, "item_id is missing"),
        ("item_id", 3.5, "item_id is not a whole number"),
        ("user_id", -4, "user_id is negative"),
        ("user_id", 1e300, "user_id is too large"),
        ("user_id", str(2**64), "user_id is too large"),
        ("rating", 9, "rating is outside 0.5 to 5"),
        ("rating", float("inf"), "rating is not a number"),
        ("timestamp", -5, "timestamp is negative"),
        ("timestamp", 1_000_000_000_000, "timestamp is in milliseconds, not seconds"),
        ("timestamp", 5, "timestamp lies before 1995-01-09"),
        ("timestamp", NOW + 200_000, "timestamp lies in the future"),
        ("timestamp", "yesterday", "timestamp is not a number"),
    ],
)
def test_a_bad_cell_is_quarantined_with_its_reason(column: str, value: object, reason: str) -> None:
    frame = with_cell(column, value)
    found = validate(raw(frame), LAX, NOW)
    report = found.report.tables["interactions"]
    assert report.reasons == {reason: 1}
    assert (report.rows, report.accepted, report.quarantined) == (200, 199, 1)
    entry = found.quarantined.iloc[0]
    assert (entry["table"], entry["row"], entry["reasons"]) == ("interactions", 7, reason)
    assert str(frame.iloc[7]["rating"]) in entry["cells"]
    assert 7 not in set(found.interactions["row"])


def test_of_repeated_events_the_latest_is_kept() -> None:
    frame = synthetic.interactions(20, 30, 10)
    again = frame.iloc[[3, 3]].assign(timestamp=lambda rows: rows["timestamp"] + [50, 50], rating=[1, 5])
    found = validate(raw(pd.concat([frame, again], ignore_index=True)), LAX, NOW)
    repeated = frame.iloc[3]
    same = (found.interactions["user_id"] == repeated["user_id"]) & (found.interactions["item_id"] == repeated["item_id"])
    kept = found.interactions[same]
    assert len(kept) == 1 and kept.iloc[0]["rating"] == 5.0 and kept.iloc[0]["row"] == 201
    report = found.report.tables["interactions"]
    assert (report.rows, report.accepted, report.duplicates, report.quarantined, report.reasons) == (202, 200, 2, 0, {})
    assert found.quarantined.empty


@pytest.mark.parametrize("ratings", [(4.5, 2.5), (2.5, 4.5)])
def test_the_content_and_not_the_row_decides_between_repeated_events_of_one_second(ratings: tuple[float, float]) -> None:
    frame = synthetic.interactions(20, 30, 10)
    frame.loc[3, "rating"] = ratings[0]
    found = validate(raw(pd.concat([frame, frame.iloc[[3]].assign(rating=ratings[1])], ignore_index=True)), LAX, NOW)
    kept = found.interactions[found.interactions["row"].isin([3, 200])]
    assert kept["rating"].tolist() == [4.5]


def test_unsigned_ids_that_do_not_fit_are_too_large() -> None:
    frame = synthetic.interactions(20, 30, 10).astype({"user_id": np.uint64})
    frame.loc[7, "user_id"] = np.uint64(2**63 + 9)
    assert validate(raw(frame), LAX, NOW).report.tables["interactions"].reasons == {"user_id is too large": 1}


@pytest.mark.parametrize("dtype", [np.int64, object])
def test_an_empty_frame_is_refused(dtype: type) -> None:
    with pytest.raises(DataRefusedError, match="nothing was stored"):
        validate(raw(synthetic.interactions(2, 3, 1).iloc[:0].astype(dtype)), LAX, NOW)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_the_content_and_not_the_row_decides_between_two_descriptions_of_one_item(order: list[int]) -> None:
    items = pd.DataFrame(
        {"item_id": [1, 1, 2], "title": ["One", "Uno", "Two"], "year": [1990, 1991, 1992], "genres": ["", "War", ""]}
    )
    found = validate(raw(synthetic.interactions(20, 30, 10), items.iloc[order].reset_index(drop=True)), LAX, NOW).items
    assert found[found["item_id"] == 1][["title", "genres"]].to_numpy().tolist() == [["Uno", "War"]]


def test_accepted_rows_are_sorted_and_int64() -> None:
    found = validate(raw(synthetic.interactions(20, 30, 10).astype(float)), LAX, NOW).interactions
    assert found.dtypes.astype(str).to_dict() == dict(
        user_id="int64", item_id="int64", rating="float64", timestamp="int64", row="int64"
    )
    assert found.equals(found.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True))


@pytest.mark.full
@given(bad=st.lists(st.tuples(st.integers(0, 199), st.sampled_from(["user_id", "rating", "timestamp"])), max_size=30))
def test_rows_in_are_rows_accepted_plus_rows_quarantined(bad: list[tuple[int, str]]) -> None:
    frame = synthetic.interactions(20, 30, 10).astype(object)
    for row, column in bad:
        frame.loc[row, column] = "?"
    found = validate(raw(frame), LAX, NOW)
    report = found.report.tables["interactions"]
    assert report.rows == 200 == report.accepted + report.quarantined
    assert report.accepted == len(found.interactions)
    assert set(found.interactions["row"]) | set(found.quarantined["row"]) == set(range(200))
    assert set(found.quarantined["row"]) == {row for row, _ in bad}
    json.dumps(found.report.to_dict())


def test_too_many_bad_rows_stop_the_run_and_the_error_says_which() -> None:
    frame = synthetic.interactions(20, 30, 10)
    frame.loc[:19, "timestamp"] *= 1000
    with pytest.raises(
        DataRefusedError, match=r"20 of 200 .*10\.0%.*max_quarantined_share = 5\.0%.*milliseconds.*first data row 1"
    ):
        validate(raw(frame), ValidationSettings(min_rows=1), NOW)


def test_an_empty_column_is_named() -> None:
    frame = synthetic.interactions(20, 30, 10)
    frame["rating"] = np.nan
    with pytest.raises(DataRefusedError, match="column rating of the interactions is empty in all 200 rows"):
        validate(raw(frame), LAX, NOW)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataRefusedError, match=r"200 of 200 interactions are valid.*min_rows = 1000"):
        validate(raw(synthetic.interactions(20, 30, 10)), ValidationSettings(), NOW)


def test_rated_movies_without_a_description_are_kept_and_counted() -> None:
    frame = synthetic.interactions(20, 30, 10)
    items = synthetic.movies(frame).assign(year=1995).iloc[2:]
    found = validate(raw(frame, items), LAX, NOW)
    assert found.report.items_without_metadata == 2
    assert set(frame["item_id"]) == set(found.items["item_id"])
    assert (found.items["title"] == "").sum() == 2


def test_bad_items_and_users_are_quarantined_too() -> None:
    frame = synthetic.interactions(20, 30, 10)
    items = synthetic.movies(frame).assign(year=[9999] + [1990] * (frame["item_id"].nunique() - 1)).astype({"item_id": object})
    items.loc[len(items)] = [items.loc[1, "item_id"], "again", "Drama", 1990]
    items.loc[len(items)] = ["x", "none", "Drama", 1990]
    users = pd.DataFrame({"user_id": [1, -2, 900], "age": [300, 5, 40], "gender": ["F", "M", None], "occupation": [3, 4, 5]})
    found = validate(raw(frame, items, users), LAX, NOW)
    assert found.report.tables["items"].reasons == {"item_id is not a number": 1, "item_id is in another row, too": 1}
    assert found.report.tables["users"].reasons == {"user_id is negative": 1}
    assert pd.isna(found.items["year"].iloc[0]) and found.items["year"].iloc[1] == 1990
    by_id = found.users.set_index("user_id")
    assert pd.isna(by_id.loc[1, "age"]) and by_id.loc[900, "age"] == 40 and by_id.loc[900, "occupation"] == "5"
    assert len(by_id) == 21 and by_id["zip_code"].isna().all()


def test_every_format_validates_to_the_same_interactions(tmp_path: Path) -> None:
    frame = synthetic.interactions(12, 20, 10)
    found = []
    for write in (synthetic.write_csv, synthetic.write_dat, synthetic.write_u_data, synthetic.write_atomic):
        write(tmp_path / write.__name__, frame)
        found.append(validate(read_tables(files_of_folder(tmp_path / write.__name__)), LAX, NOW).interactions)
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other)


def test_a_report_tells_of_events_of_weight_0_only_where_there_are_any() -> None:
    report = ValidationReport({"interactions": TableReport(9, 7, 0, left_out=2), "items": TableReport(3, 3, 0)}, 0)
    tables = report.to_dict()["tables"]
    assert tables["interactions"]["left_out"] == 2 and "left_out" not in tables["items"]
    assert ValidationReport.from_dict(report.to_dict()) == report
