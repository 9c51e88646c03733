"""One window decides which outcomes are credited and which must be in the log, so a sound experiment is never refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from configs.serving import Experiment
from serving.experiments import Exposure, report_experiment
from tests.serving.live import DAY, START, experiment, lived


def joined(made: Experiment, exposures: list[Exposure], outcomes: pd.DataFrame, as_of: int) -> tuple[bool, float | None, str]:
    frame = pd.DataFrame(
        {
            "user": outcomes["user_id"].astype(str),
            "time": outcomes["timestamp"],
            "item": outcomes["item_id"],
            "value": outcomes["value"],
            "request": outcomes.get("request_id", ""),
        }
    )
    (check,) = [c for c in report_experiment(made, exposures, frame, as_of=as_of).checks if c.name == "join rate"]
    return check.passed, check.figure, check.detail


@pytest.mark.full
@pytest.mark.parametrize("attribution", ["any", "shown"])
@pytest.mark.parametrize("named", [True, False])
def test_late_outcomes_are_found_in_the_log(attribution: str, named: bool) -> None:
    """A third of the outcomes come two days later: `any` credits them, and `shown` does not, but both know the lists."""
    made = experiment(analysis={"attribution": attribution, "window_s": 3600, "horizon_s": 7 * DAY})
    exposures, outcomes = lived(made, rates=(0.3, 0.3))
    late = np.arange(len(outcomes)) % 3 == 0
    outcomes["timestamp"] += np.where(late, 2 * DAY, 0)
    if not named:
        outcomes = outcomes.drop(columns="request_id")
    passed, rate, _ = joined(made, exposures, outcomes, START + 20 * DAY)
    assert passed and rate == 1.0
    report = report_experiment(
        made,
        exposures,
        outcomes.rename(columns={"user_id": "user", "timestamp": "time", "item_id": "item"}).assign(
            user=lambda f: f["user"].astype(str), request=""
        ),
        as_of=START + 20 * DAY,
    )
    assert sum(arm.outcomes for arm in report.arms) == (len(outcomes) if attribution == "any" else (~late).sum())


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("attribution", ["any", "shown"])
def test_outcomes_before_and_after_the_experiment_do_not_count_as_gaps_in_the_log(attribution: str, named: bool) -> None:
    made = experiment(analysis={"attribution": attribution, "window_s": DAY // 2})
    exposures, outcomes = lived(made, rates=(0.3, 0.3))
    rng = np.random.default_rng(1)
    users = pd.Series(rng.integers(0, 2000, 3000))
    firsts = {each.user: each.time for each in reversed(exposures)}
    first = users.map(firsts).to_numpy()
    before = pd.DataFrame(
        {"user_id": users, "timestamp": first - rng.integers(1, DAY, 3000), "item_id": 7, "value": 1.0, "request_id": ""}
    )
    last = max(each.time for each in exposures)
    after = before.assign(timestamp=last + rng.integers(1, 5 * DAY, 3000), request_id=[f"later{n}" for n in range(3000)])
    all_of_them = pd.concat([outcomes, before, after], ignore_index=True)
    if not named:
        all_of_them = all_of_them.drop(columns="request_id")
    passed, rate, said = joined(made, exposures, all_of_them, START + 20 * DAY)
    assert passed and rate == 1.0, said


def test_a_list_with_which_the_champion_stood_in_for_an_arm_is_found_in_the_log() -> None:
    """The version of an arm was not loaded: the log holds the answer, without an experiment."""
    made = experiment()
    exposures, outcomes = lived(made, rates=(0.3, 0.3))
    stood_in = [
        replace(each, version="v1", experiment=None, arm=None, revision=None)
        if each.request.endswith("0") and int(each.user) % 5 == 0
        else each
        for each in exposures
    ]
    passed, rate, said = joined(made, stood_in, outcomes, START + 20 * DAY)
    assert passed and rate == 1.0, said


@pytest.mark.parametrize("attribution", ["any", "shown"])
@pytest.mark.parametrize("named", [True, False])
def test_a_lost_log_is_noticed_with_either_attribution(attribution: str, named: bool) -> None:
    made = experiment(analysis={"attribution": attribution})
    exposures, outcomes = lived(made, rates=(0.3, 0.3))
    gaps = [each for each in exposures if int(each.user) % 10]  # a replica's log is missing
    if not named:
        outcomes = outcomes.drop(columns="request_id")
    passed, rate, _ = joined(made, gaps, outcomes, START + 20 * DAY)
    assert not passed and rate == pytest.approx(0.9, abs=0.03)
