from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from configs.errors import AlreadyExistsError, VersionCorruptError
from models.evaluation import per_request
from tasks.replay import (
    Replay,
    ReplayLog,
    difference_rows,
    headline,
    policy_rows,
    render_markdown,
    replay_results,
    slice_line,
    write_report,
)
from tasks.replay.figures import colours, differences_svg, quality_svg
from tasks.replay.report import found_after, render_html
from tests.tasks.replayed import ended, ranks, record, small_plan, small_settings, training


@pytest.fixture
def found(tmp_path: Path) -> Replay:
    plan = small_plan(tmp_path)
    ended(plan)
    return replay_results(plan, small_settings(tmp_path))


def test_policies_are_measured_on_the_same_requests(found: Replay) -> None:
    never, monthly, on_drift = found.policies
    assert found.requests == 1200 and found.users == 60
    assert [point.slice for point in never.points] == [1, 2, 3, 4]
    expected = np.concatenate([per_request(ranks(number)["monthly"].to_numpy(), "ndcg", 10) for number in (1, 2, 3, 4)])
    assert monthly.ndcg.mean == pytest.approx(expected.mean()) and monthly.ndcg.low < monthly.ndcg.mean < monthly.ndcg.high
    assert monthly.points[0].gain.mean == pytest.approx(monthly.points[0].ndcg.mean - never.points[0].ndcg.mean)
    assert never.unknown_share == pytest.approx(20 / 1200) and monthly.unknown_share == 0
    assert (never.trainings, monthly.promoted, on_drift.promoted) == ([], 1, 0)
    assert on_drift.drifts == {3: ["volume", "genre"]}
    assert monthly.cost == pytest.approx(36 / 3600) and never.cost == 0
    assert found.base_seconds == 36 and found.seconds == 5 * 1.0 + 5 * 36.0


def test_a_real_difference_is_shown_and_equal_policies_have_none(found: Replay) -> None:
    pairs = {(pair.a, pair.b): pair for pair in found.differences}
    better, equal = pairs["monthly", "never"], pairs["on-drift", "never"]
    assert better.significant and better.ndcg.low > 0 and better.hr.mean > 0 and better.p_value == pytest.approx(1 / 401)
    assert better.adjusted >= better.p_value
    assert (equal.ndcg.mean, equal.ndcg.low, equal.ndcg.high, equal.p_value, equal.significant) == (0, 0, 0, 1, False)
    worse = pairs["on-drift", "monthly"]
    assert worse.ndcg.mean == pytest.approx(-better.ndcg.mean)
    said = headline(found)
    assert said.startswith("monthly has the highest NDCG@10 on 1,200 live requests of 60 users")
    assert "with 1 retraining, 1 of which became champion, at a cost of $0.010" in said
    assert "It is shown to be better than never and on-drift." in said
    assert [row["in words"] for row in difference_rows(found)] == [
        "monthly is better than never", "no difference is shown", "monthly is better than on-drift",
    ]  # fmt: skip


def test_a_slice_in_which_nothing_happens_has_no_point(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    ended(plan, silent=2)
    found = replay_results(plan, small_settings(tmp_path))
    assert [point.slice for point in found.policies[0].points] == [1, 3, 4]
    assert [part.requests for part in found.slices] == [300, 0, 300, 300]
    assert quality_svg(found)


def test_the_report_says_that_a_replay_had_nobody_to_ask(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, slices=1)
    log = ReplayLog.of(plan)
    for number in (0, 1):
        log.keep_slice(record(number), None)
    found = replay_results(plan, small_settings(tmp_path))
    assert headline(found) == "Nothing happened after the base, so no policy could be measured."
    assert differences_svg(found) is None and b"no policy could be measured" in render_html(found)


def test_the_report_says_when_a_scenario_was_found(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    ended(plan)
    by = ", by volume and genre"
    for begin, said in ((3, f"in its first slice{by}"), (2, f"1 week late{by}"), (1, f"2 weeks late{by}"), (4, "never")):
        settings = small_settings(tmp_path, scenario={"name": "feed-outage", "from_slice": begin})
        found = replay_results(plan, settings)
        assert found_after(found, found.policy("never")) == said
        assert policy_rows(found)[0]["finds feed-outage"] == said
    assert b"Planted: feed-outage, from week 4" in render_html(found)


def test_an_alarm_that_the_same_slice_raises_without_the_shift_does_not_count_as_finding_it(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    log, alarms = (
        ReplayLog.of(plan),
        {2: ("hour",), 3: ("hour", "genre", "genre, over the long term"), 4: ("hour", "genre", "rating")},
    )
    for number in range(5):
        kept = record(number, alarms.get(number, ()))
        measured = {
            name: replace(watch, unplanted=["hour", "genre"] if number > 2 else None) for name, watch in kept.policies.items()
        }
        log.keep_slice(replace(kept, policies=measured), ranks(number) if number else None)
    found = replay_results(plan, small_settings(tmp_path, scenario={"name": "bot-users", "from_slice": 3}))
    never = found.policy("never")
    assert never.moved == {4: ["rating"]} and found_after(found, never) == "1 week late, by rating"
    assert never.drifts[3] == ["hour", "genre", "genre, over the long term"], "what drifted is still reported"


def test_in_a_replay_of_an_earlier_version_the_slice_before_the_shift_shows_what_is_usual(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    log, alarms = ReplayLog.of(plan), {2: ("hour",), 3: ("hour",), 4: ("hour", "rating")}
    for number in range(5):
        log.keep_slice(record(number, alarms.get(number, ())), ranks(number) if number else None)
    found = replay_results(plan, small_settings(tmp_path, scenario={"name": "bot-users", "from_slice": 3}))
    assert found_after(found, found.policy("never")) == "1 week late, by rating"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, name="<script>alert(1)</script>")
    ended(plan)
    found = write_report(plan, replay_results(plan, small_settings(tmp_path)))
    store = ReplayLog.of(plan).store
    page = store.get("replay/report.html")
    parsed = _Page()
    parsed.feed(page.decode())
    assert parsed.sources and all(source.startswith("data:image/svg+xml;base64,") for source in parsed.sources)
    assert "script" not in parsed.tags and "b" not in parsed.tags
    assert "monthly" in page.decode() and "a new month" in page.decode() and "volume, genre" in page.decode()
    assert json.loads(store.get("replay/report.json")) == json.loads(json.dumps(found.to_dict()))
    assert found.page == store.uri("replay/report.html")
    assert "<script>" not in render_markdown(found)


@pytest.mark.full
def test_the_figures_are_svg_and_the_same_each_time(found: Replay) -> None:
    drawn = quality_svg(found)
    assert drawn == quality_svg(found) and ElementTree.fromstring(drawn).tag.endswith("svg")
    pairs = differences_svg(found)
    assert pairs is not None and ElementTree.fromstring(pairs).tag.endswith("svg")
    assert len(set(colours(found).values())) == 3


def test_records_are_kept_once_and_read_back(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    log = ReplayLog.of(plan)
    assert log.slice(1) is None and log.ranks(1) is None and log.trainings() == []
    log.keep_slice(record(1, ("genre",)), ranks(1))
    assert log.slice(1) == record(1, ("genre",))
    kept = log.ranks(1)
    assert kept is not None and kept.equals(ranks(1))
    log.keep_slice(record(1, ("genre",)), ranks(1))  # as a task does again if its first answer was lost
    with pytest.raises(AlreadyExistsError):
        log.keep_slice(record(1), None)
    for _ in range(2):
        log.keep_training(training("never", 0))
    with pytest.raises(AlreadyExistsError):
        log.keep_training(training("never", 0, "held"))
    assert log.trainings() == [training("never", 0)]
    assert log.begin(plan) == plan == log.begin(plan)
    assert "never NDCG@10 0." in slice_line(plan, record(1, ("genre",))) and "drifted in genre" in slice_line(
        plan, record(1, ("genre",))
    )
    log.store.put("replay/slices/0001.json", b"{")
    with pytest.raises(VersionCorruptError, match=r"0001\.json cannot be read as JSON"):
        log.slice(1)
