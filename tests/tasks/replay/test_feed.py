from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ReplayError
from configs.studies import ReplaySettings
from tasks.ingest import IngestedSource
from tasks.ingest.movielens import RawTables
from tasks.replay import deliver
from tasks.replay.feed import Feed, edges, feed_of, write_feed
from tests import synthetic

DAY_S = 86_400
NOW = 1_700_000_000
MOMENTS = st.integers(0, 4_000_000_000)


def twenty_days(users: int = 30, events: int = 20) -> pd.DataFrame:
    """Events on each of twenty days."""
    frame = synthetic.interactions(users, 40, events)
    return frame.assign(timestamp=synthetic.START + (frame["timestamp"] - synthetic.START) % (20 * DAY_S))


def source(frame: pd.DataFrame | None = None, items: bool = True) -> IngestedSource:
    events = twenty_days() if frame is None else frame
    films = synthetic.movies(events).assign(year=1990)[["item_id", "title", "year", "genres"]]
    films = films.astype({"title": "string", "year": "Int64", "genres": "string"})
    users = pd.DataFrame({"user_id": events["user_id"].unique(), "age": 30})
    return IngestedSource("small", RawTables(events, films if items else None, users if items else None, ()), {})


def feed(frame: pd.DataFrame | None = None, items: bool = True, **settings: Any) -> Feed:
    return feed_of(source(frame, items), ReplaySettings.model_validate({"slices": "day", "base_slices": 3, **settings}), NOW)


def delivered(found: Feed, number: int) -> pd.DataFrame:
    return found.events[found.slice_of == number]


@given(MOMENTS, st.integers(0, 100 * DAY_S), st.sampled_from(["day", "week", "month"]))
def test_slices_follow_the_calendar_and_contain_every_moment_once(first: int, lasts: int, length: Any) -> None:
    marks = edges(first, first + lasts, length)
    assert (np.diff(marks) > 0).all()
    assert marks[0] <= first < marks[1] and marks[-2] <= first + lasts < marks[-1]
    for mark in marks:
        moment = datetime.fromtimestamp(int(mark), UTC)
        assert (moment.hour, moment.minute, moment.second) == (0, 0, 0)
        assert length != "week" or moment.weekday() == 0
        assert length != "month" or moment.day == 1
    if length != "month":
        assert set(np.diff(marks)) == {DAY_S if length == "day" else 7 * DAY_S}


@given(st.integers(1, 2), st.sampled_from(["day", "week"]))
def test_every_row_comes_once_and_in_the_slice_of_its_time(base: int, length: Any) -> None:
    frame = twenty_days(20, 15)
    found = feed(frame, slices=length, base_slices=base)
    pd.testing.assert_frame_equal(found.events, frame)
    assert sum(part.rows for part in found.slices) == len(frame)
    for part in found.slices:
        times = delivered(found, part.number)["timestamp"]
        assert len(times) == part.rows and times.between(part.start, part.end - 1).all()
    assert [part.number for part in found.slices] == list(range(len(found.slices)))
    assert all(a.end == b.start for a, b in zip(found.slices[:-1], found.slices[1:], strict=True))


def test_no_more_slices_than_most_slices_are_replayed() -> None:
    whole, short = feed(), feed(most_slices=2)
    assert short.slices == whole.slices[:3] and len(short.events) == sum(part.rows for part in short.slices)


@pytest.mark.parametrize("scenario", [None, {"name": "feed-outage", "from_slice": 1}])
def test_the_last_slice_ends_with_the_source_and_the_others_with_the_calendar(scenario: Any) -> None:
    frame = twenty_days()
    last = int(frame["timestamp"].max())
    whole = feed(frame, slices="week", base_slices=1, scenario=scenario)
    calendar = edges(int(frame["timestamp"].min()), last, "week")
    assert last + 1 < calendar[-1]
    assert [part.end for part in whole.slices] == [*calendar[1:-1].tolist(), last + 1]
    short = feed(frame, slices="week", base_slices=1, scenario=scenario, most_slices=1)
    assert [part.end for part in short.slices] == calendar[1:3].tolist()
    if scenario is not None:  # the silence lasts until the source ends
        assert whole.slices[-1].rows == 0


@pytest.mark.parametrize("wild", [0, 700_000_000, NOW + 100_000, 2_147_483_647, 5 * 10**12, 10**18])
def test_a_row_with_an_impossible_time_comes_with_the_base_and_moves_no_slice(wild: int) -> None:
    frame = twenty_days()
    plain = feed(frame.drop(index=5))
    frame.loc[5, "timestamp"] = wild
    found = feed(frame)
    assert [(part.start, part.end) for part in found.slices] == [(part.start, part.end) for part in plain.slices]
    assert [part.rows for part in found.slices] == [plain.slices[0].rows + 1, *(part.rows for part in plain.slices[1:])]
    assert found.slice_of[5] == 0 and found.events.loc[5, "timestamp"] == wild
    scenario = {"name": "bot-users", "from_slice": 2}
    planted, undisturbed = feed(frame, scenario=scenario), feed(frame.drop(index=5), scenario=scenario)
    assert [part.rows for part in planted.slices[1:]] == [part.rows for part in undisturbed.slices[1:]]
    assert wild in set(delivered(planted, 0)["timestamp"])


@pytest.mark.parametrize("wild", [-9 * 365 * DAY_S, 9 * 365 * DAY_S])
def test_a_row_with_a_possible_but_wild_time_comes_with_the_base_and_moves_no_slice(wild: int) -> None:
    frame = twenty_days()
    row = int(frame.index[5])
    spoilt = frame.copy()
    spoilt.loc[row, "timestamp"] += wild
    expected, found = feed(frame.drop(index=row)), feed(spoilt)
    assert [(part.start, part.end) for part in found.slices] == [(part.start, part.end) for part in expected.slices]
    assert found.slices[0].rows == expected.slices[0].rows + 1 and len(found.events) == len(frame)


def test_events_of_today_are_possible_as_far_as_validation_allows() -> None:
    frame = twenty_days()
    frame["timestamp"] += NOW + DAY_S - frame["timestamp"].max()
    found = feed(frame)
    assert found.slices[-1].end == NOW + DAY_S + 1 and sum(part.rows for part in found.slices[1:]) > 0
    strict = feed(frame, validation={"max_future_s": DAY_S - 1})
    assert strict.slices[-1].end <= NOW + DAY_S


def test_a_row_whose_time_cannot_be_read_comes_with_the_base_as_it_is() -> None:
    frame = twenty_days().astype({"timestamp": object})
    frame.loc[5, "timestamp"], frame.loc[6, "rating"] = "yesterday", np.nan
    found = feed(frame)
    assert found.slice_of[5] == 0 and found.events.loc[5, "timestamp"] == "yesterday"
    shifted = feed(frame, scenario={"name": "rating-scale", "from_slice": 1})
    assert "yesterday" in set(delivered(shifted, 0)["timestamp"]) and len(shifted.events) == len(frame)


def test_delivered_files_have_the_time_of_their_slice_and_are_the_same_each_time(tmp_path: Path) -> None:
    found, arrived = feed(), []
    write_feed(found, tmp_path / "feed")
    for part in found.slices:
        paths = deliver(part, tmp_path / "feed", tmp_path / "zone")
        assert all(path.stat().st_mtime == part.end for path in paths)
        assert {path.name.split("-")[0] for path in paths} == ({"events", "items", "users"} if part.number == 0 else {"events"})
        before = {path: path.read_bytes() for path in paths}
        write_feed(found, tmp_path / "feed")
        assert deliver(part, tmp_path / "feed", tmp_path / "zone") == paths
        assert {path: path.read_bytes() for path in paths} == before
        arrived += [pd.read_csv(path) for path in paths if path.name.startswith("events-")]
    read = pd.concat(arrived)
    assert sorted(read.itertuples(index=False)) == sorted(found.events.itertuples(index=False))
    assert not list((tmp_path / "zone").glob(".*"))


def test_files_of_an_earlier_replay_are_neither_delivered_nor_left_in_the_zone(tmp_path: Path) -> None:
    places = tmp_path / "feed", tmp_path / "zone"
    earlier = feed(slices="week", base_slices=1, scenario={"name": "genre-surge", "from_slice": 1})
    write_feed(earlier, places[0])
    for part in earlier.slices:
        deliver(part, *places)
    found = feed(slices="week", base_slices=1, scenario={"name": "feed-outage", "from_slice": 2})
    write_feed(found, places[0])
    (places[1] / "events-0000.csv").write_text("of another store\n", encoding="utf-8")
    for part in found.slices:
        names = {path.name for path in deliver(part, *places)}
        assert {path.name for path in places[1].iterdir()} == names
        assert {name.split("-")[0] for name in names} == (
            {"events", "items", "users"} if part.number == 0 else {"events"} if part.rows else set()
        )
        if part.rows:
            read = pd.read_csv(places[1] / f"events-{part.number:04d}.csv")
            pd.testing.assert_frame_equal(read, delivered(found, part.number).reset_index(drop=True), check_dtype=False)
    assert {part.rows > 0 for part in found.slices} == {True, False}


def test_a_scenario_changes_nothing_before_its_slice() -> None:
    plain = feed()
    for name in ("genre-surge", "bot-users", "rating-scale", "milliseconds", "feed-outage", "partial-outage"):
        shifted = feed(scenario={"name": name, "from_slice": 2})
        assert [(part.start, part.end) for part in shifted.slices] == [(part.start, part.end) for part in plain.slices]
        for number in (0, 1):
            before, after = (delivered(each, number).reset_index(drop=True) for each in (plain, shifted))
            pd.testing.assert_frame_equal(before, after, check_dtype=False)
        assert not delivered(plain, 2).reset_index(drop=True).equals(delivered(shifted, 2).reset_index(drop=True)), name


def test_milliseconds_stay_in_their_slice_bots_are_not_people_and_an_outage_is_silent() -> None:
    milliseconds = feed(scenario={"name": "milliseconds", "from_slice": 2})
    assert [part.rows for part in milliseconds.slices] == [part.rows for part in feed().slices]
    assert (delivered(milliseconds, 2)["timestamp"] > 10**11).all()
    bots = feed(scenario={"name": "bot-users", "from_slice": 2})
    assert bots.last_person == 30 < bots.events.loc[bots.slice_of >= 2, "user_id"].max()
    outage = feed(scenario={"name": "feed-outage", "from_slice": 2})
    assert all(part.rows == 0 for part in outage.slices[2:])


@pytest.mark.parametrize("items", [True, False])
def test_new_films_are_described_when_they_appear(items: bool) -> None:
    wave = feed(items=items, scenario={"name": "genre-surge", "from_slice": 2})
    assert wave.events["item_id"].isin(twenty_days()["item_id"]).mean() < 1
    if items:
        assert set(wave.items) == {0, 2} and set(wave.items[2]["genres"]) == {"Telenovela"}
    else:
        assert not wave.items


def test_what_cannot_be_replayed_is_refused_with_the_reason() -> None:
    with pytest.raises(ReplayError, match=r"small lasts \d+ calendar months, and base_slices is 8: nothing is left to replay"):
        feed(slices="month", base_slices=8)
    with pytest.raises(ReplayError, match=r"from_slice is 400, but there are only \d+ slices after the base"):
        feed(scenario={"name": "bot-users", "from_slice": 400})
    for time in ("never", 0, NOW + 2 * DAY_S, NOW * 1000):
        with pytest.raises(
            ReplayError, match=r"No event of small has a time in UTC seconds between validation.earliest \(789652009\)"
        ):
            feed(synthetic.interactions(3, 4, 2).assign(timestamp=time))


def test_people_with_large_ids_are_not_taken_for_planted_bots() -> None:
    frame = twenty_days().assign(user_id=lambda rows: rows["user_id"] + 76561197960265728)
    scenario = {"name": "bot-users", "from_slice": 5}
    for ids in (frame["user_id"], frame["user_id"].astype(str)):
        found = feed(frame.assign(user_id=ids), scenario=scenario)
        assert found.last_person == frame["user_id"].max()
        people = found.events["user_id"].astype(np.int64) <= found.last_person
        assert (~people).sum() > 0 and set(found.events["user_id"][people].astype(np.int64)) == set(frame["user_id"])
