"""The report: correct figures on known data, and no conclusion from data that cannot be believed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from configs.errors import SourceError
from configs.serving import Experiment
from serving.experiments import ExperimentReport, Exposure, read_outcomes, render_html, report_experiment
from serving.experiments.page import course_svg
from tests.serving.live import DAY, START, experiment, lived, outcomes_file


def reported(
    made: Experiment, exposures: list[Exposure], outcomes: pd.DataFrame, folder: Path, as_of: int | None = START + 20 * DAY
) -> ExperimentReport:
    return report_experiment(made, exposures, read_outcomes(outcomes_file(outcomes, folder / "outcomes.csv")), as_of=as_of)


def failed(report: ExperimentReport) -> list[str]:
    return [check.name for check in report.checks if not check.passed]


def test_a_better_arm_is_found_with_its_lift(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made)
    report = reported(made, exposures, outcomes, tmp_path)
    assert failed(report) == [] and report.trusted
    (versus,) = report.versus
    found = versus.comparison
    assert found is not None and versus.verdict == "better"
    # By hand: every outcome is about a film that was just shown, so each user whom the file names has converted.
    arm_of = {str(each.user): each.arm for each in exposures}
    converted = set(outcomes["user_id"].astype(str))
    for arm, mean, count in (
        ("control", found.control_mean, found.control_users),
        ("challenger", found.treated_mean, found.treated_users),
    ):
        own = [user in converted for user, a in arm_of.items() if a == arm]
        assert count == len(own) and mean == pytest.approx(np.mean(own))
    assert found.lift == pytest.approx(found.difference / found.control_mean)
    assert found.lift_low is not None and found.lift_high is not None and found.lift_low < found.lift < found.lift_high  # type: ignore[operator]
    assert "challenger is better than control" in report.verdict and "lift" in report.verdict
    assert report.arms[0].versions == ["v1"] and report.arms[1].versions == ["v2"]


def test_equal_arms_show_nothing_and_a_worse_one_is_named_worse(tmp_path: Path) -> None:
    made = experiment()
    same = reported(made, *lived(made, rates=(0.2, 0.2)), tmp_path)
    assert [each.verdict for each in same.versus] == ["not shown"] and "no difference" in same.verdict
    worse = reported(made, *lived(made, rates=(0.4, 0.2)), tmp_path)
    assert [each.verdict for each in worse.versus] == ["worse"]


def test_a_user_counts_once_the_time_for_outcomes_has_passed(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made, days=10)
    half = reported(made, exposures, outcomes, tmp_path, as_of=START + 7 * DAY)
    firsts = {each.user: each.time for each in reversed(exposures)}
    assert sum(arm.users for arm in half.arms) == sum(time + 2 * DAY <= START + 7 * DAY for time in firsts.values())
    assert sum(arm.exposed for arm in half.arms) == sum(time <= START + 7 * DAY for time in firsts.values())
    early = reported(made, exposures, outcomes, tmp_path, as_of=START + int(2.2 * DAY))
    assert [each.verdict for each in early.versus] == ["too early"] and "too early" in early.verdict


def test_users_count_as_far_as_both_inputs_reach(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made, rates=(0.5, 0.5), days=30)
    until = START + 20 * DAY
    stale = outcomes[outcomes["timestamp"] <= until]  # exported earlier than the log
    report = reported(made, exposures, stale, tmp_path, as_of=None)
    assert report.as_of == stale["timestamp"].max() and report.as_of_is == "the newest outcome"
    assert [arm.mean for arm in report.arms] == pytest.approx([0.5, 0.5], abs=0.06)
    logged = [each for each in exposures if each.time <= until]
    report = reported(made, logged, outcomes, tmp_path, as_of=None)
    assert report.as_of == max(each.time for each in logged) and report.as_of_is == "the newest exposure"
    clock = pd.concat([stale, stale.iloc[:1].assign(timestamp=START + 300 * DAY)])  # one device is a year ahead
    assert reported(made, exposures, clock, tmp_path, as_of=None).as_of == max(each.time for each in exposures)


def test_the_log_of_an_experiment_need_not_reach_beyond_its_period(tmp_path: Path) -> None:
    end = START + 12 * DAY
    made = experiment(during={"end": datetime.fromtimestamp(end, UTC).isoformat()})
    exposures, outcomes = lived(made, rates=(0.5, 0.5), days=10)
    later = outcomes.iloc[:1].assign(timestamp=START + 300 * DAY)
    report = reported(made, exposures, pd.concat([outcomes, later]), tmp_path, as_of=None)
    assert report.as_of == end + 2 * DAY and report.as_of_is == "the end of the last user's time"
    assert sum(arm.users for arm in report.arms) == sum(arm.exposed for arm in report.arms) == 2000


def test_a_conversion_is_any_outcome_whatever_its_value(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made)
    plain = reported(made, exposures, outcomes, tmp_path)
    for value in (0.0, -3.0):
        worth = reported(made, exposures, outcomes.assign(value=value), tmp_path)
        assert [arm.mean for arm in worth.arms] == [arm.mean for arm in plain.arms]
        assert worth.verdict == plain.verdict


def test_an_experiment_without_outcomes_has_a_page_that_says_so(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made)
    report = reported(made, exposures, outcomes[:0], tmp_path, as_of=None)
    assert [each.verdict for each in report.versus] == ["too early"]
    assert "every user who counts has the same outcome" in report.verdict
    assert report.verdict.split(",")[0] in render_html(report).decode()
    # The outcomes end before the first exposure.
    report = reported(made, exposures, outcomes[:1].assign(timestamp=START - DAY), tmp_path, as_of=None)
    assert report.exposures == 0 and report.as_of_is == "the newest outcome"
    assert "nobody was exposed to its revision" in report.verdict and "Too early" in render_html(report).decode()


def test_only_outcomes_in_time_and_on_what_was_shown_are_credited(tmp_path: Path) -> None:
    made = experiment(analysis={"attribution": "shown", "window_s": 3600, "horizon_s": 2 * DAY, "outcome": "value"})
    one = Exposure(START, 1, "r", "v1", [7, 8], "longer", "control", made.revision)
    two = replace(one, user=2, version="v2", arm="challenger")
    rows = [
        (1, START + 10, 7, 2.0),  # counts
        (1, START + 20, 9, 4.0),  # was not shown
        (1, START + 3601, 8, 8.0),  # too long after
        (1, START - 5, 7, 16.0),  # before
        (2, START + 3600, 8, 32.0),  # at the last moment
        (3, START + 10, 7, 64.0),  # somebody else
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "timestamp", "item_id", "value"])

    def means(made: Experiment) -> list[float | None]:
        return [arm.mean for arm in reported(made, [one, two], frame, tmp_path).arms]

    assert means(made) == [2.0, 32.0]
    assert means(experiment(analysis={"attribution": "any", "outcome": "value"})) == [14.0, 32.0]
    assert means(experiment(analysis={"attribution": "any", "outcome": "value", "value_cap": 20})) == [14.0, 20.0]
    assert means(experiment(analysis={"attribution": "any"})) == [1.0, 1.0]


def test_lost_users_lost_exposures_and_mixed_arms_are_found_and_nothing_is_concluded(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made)
    lost = [each for each in exposures if not (each.arm == "challenger" and int(each.user) % 5 == 0)]
    report = reported(made, lost, outcomes, tmp_path)
    assert "sample ratio" in failed(report) and report.versus[0].verdict == "not to be believed"
    assert report.verdict.startswith("No conclusion can be drawn: sample ratio")
    gaps = [each for each in exposures if int(each.user) % 10]  # a replica's log is missing
    assert failed(reported(made, gaps, outcomes, tmp_path)) == ["join rate"]
    assert failed(reported(made, gaps, outcomes.drop(columns="request_id"), tmp_path)) == ["join rate"]
    crossed = [
        replace(each, arm="control") if int(each.user) % 20 == 0 and each.request.endswith("-1") else each for each in exposures
    ]
    report = reported(made, crossed, outcomes, tmp_path)
    assert "users in one arm" in failed(report)
    swapped = {"control": "challenger", "challenger": "control"}
    wrong = [replace(each, arm=swapped[str(each.arm)]) if int(each.user) % 100 == 3 else each for each in exposures]
    assert failed(reported(made, wrong, outcomes, tmp_path)) == ["assignment"]
    promoted = [
        replace(each, version="v3") if each.arm == "control" and each.time > START + 5 * DAY else each for each in exposures
    ]
    assert failed(reported(made, promoted, outcomes, tmp_path)) == ["one version in each arm"]


def test_another_revision_is_another_experiment(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made)
    old = [replace(each, revision="before", time=each.time - 60 * DAY) for each in exposures if int(each.user) < 500]
    report = reported(made, [*old, *exposures], outcomes, tmp_path)
    assert sum(arm.exposed for arm in report.arms) == 1500  # whoever was in the other one is left out
    assert "users in one arm" in failed(report)
    only_old = reported(made, old, outcomes, tmp_path)
    assert only_old.exposures == 0 and only_old.versus[0].comparison is None


def test_shadow_answers_are_compared_with_what_was_shown(tmp_path: Path) -> None:
    made = experiment()
    exposures, outcomes = lived(made, users=200)
    shadows = [
        Exposure(each.time, each.user, each.request, "v9", [*each.items[:2], 1001, 1002], shadow=True) for each in exposures[:50]
    ]
    report = reported(made, [*exposures, *shadows], outcomes, tmp_path)
    (shadow,) = report.shadow
    assert (shadow.version, shadow.answers, shadow.overlap) == ("v9", 50, 0.5)
    assert "Shadow versions" in render_html(report).decode()
    half = sorted(each.time for each in shadows)[24]
    (shadow,) = reported(made, [*exposures, *shadows], outcomes, tmp_path, as_of=half).shadow
    assert (shadow.answers, shadow.overlap) == (25, 0.5)


def test_three_arms_share_the_probability_of_an_error(tmp_path: Path) -> None:
    arms = [{"name": "control"}, {"name": "b", "version": "v2"}, {"name": "c", "version": "v3"}]
    made = experiment(arms=arms)
    report = reported(made, *lived(made, rates=(0.2, 0.2, 0.4), users=3000), tmp_path)
    assert [each.verdict for each in report.versus] == ["not shown", "better"]
    two = experiment(arms=arms[::2])
    alone = reported(two, *lived(two, rates=(0.2, 0.4), users=3000), tmp_path)
    wide, narrow = report.versus[1].comparison, alone.versus[0].comparison
    assert wide is not None and narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low


@pytest.mark.parametrize(("alpha", "arms", "said"), [(0.05, 2, "95 %"), (0.1, 2, "90 %"), (0.05, 3, "97.5 %"), (0.01, 2, "99 %")])
def test_the_page_prints_the_level_that_was_set(alpha: float, arms: int, said: str, tmp_path: Path) -> None:
    named = [{"name": "control"}, {"name": "b", "version": "v2"}, {"name": "c", "version": "v3"}][:arms]
    made = experiment(arms=named, analysis={"alpha": alpha})
    report = reported(made, *lived(made, rates=(0.2, 0.3, 0.3)), tmp_path)
    page = render_html(report).decode()
    assert f"{said} for one planned look" in page and f"with probability {1 - alpha:g}" in page
    found = report.versus[0].comparison
    assert found is not None
    halves = norm.ppf(1 - alpha / (arms - 1) / 2)
    both = report.arms[:2]
    error = np.sqrt(sum(arm.mean * (1 - arm.mean) / (arm.users - 1) for arm in both if arm.mean is not None))
    assert found.fixed_high - found.fixed_low == pytest.approx(2 * halves * error)


def test_the_report_is_json_and_a_page_with_its_picture(tmp_path: Path) -> None:
    made = experiment()
    report = reported(made, *lived(made), tmp_path)
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["versus"][0]["verdict"] == "better" and len(again["versus"][0]["course"]["users"]) <= 400
    page = render_html(report).decode()
    assert "data:image/svg+xml;base64," in page and "Experiment longer" in page and report.verdict.split(",")[0] in page
    early = reported(made, *lived(made, users=50), tmp_path)
    assert course_svg(early) is None and "Too early" in render_html(early).decode()
    json.dumps(early.to_dict(), allow_nan=False)


def test_the_message_says_that_nobody_saw_the_experiment(tmp_path: Path) -> None:
    made = experiment()
    with pytest.raises(SourceError, match="No exposure names the experiment longer"):
        reported(made, [], pd.DataFrame({"user_id": [1], "timestamp": [1]}), tmp_path)
