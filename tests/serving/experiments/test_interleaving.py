"""Interleaved lists are drafted fairly, and their report finds the version whose items users prefer, and only then."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.stats import binom

from configs.serving import Experiment, ExperimentFile
from serving.experiments import ExperimentReport, Experiments, Exposure, report_experiment, team_draft
from tests.serving.live import DAY, START, experiment


def test_teams_draft_in_turn_and_each_drafts_its_best_item_that_is_left() -> None:
    one, other, rng = list("abcdef"), list("bxcyaz"), Random(3)
    firsts = []
    for _ in range(400):
        drafted = team_draft(one, other, 5, rng)
        items = [(one, other)[team][place] for team, place in drafted]
        assert len(set(items)) == 5
        for size in range(0, 5, 2):  # after each round, both teams have as many items
            assert sum(team for team, _ in drafted[:size]) == size / 2
        for number, (team, place) in enumerate(drafted):
            assert set((one, other)[team][:place]) <= set(items[:number])
        firsts.append(drafted[0][0])
    assert binom.ppf(1e-4, 400, 0.5) <= sum(firsts) <= binom.ppf(1 - 1e-4, 400, 0.5)


def test_a_team_without_items_leaves_its_turn_to_the_other() -> None:
    assert sorted(team for team, _ in team_draft(["a"], ["b", "c", "d"], 5, Random(1))) == [0, 1, 1, 1]
    drafted = team_draft([], ["a", "b"], 5, Random(1))
    assert drafted == [(1, 0), (1, 1)] and team_draft([], [], 3, Random(1)) == []


def interleaved(**analysis: Any) -> Experiment:
    return experiment(kind="interleaving", analysis=analysis)


def reported(rates: tuple[float, float], seed: int, users: int = 400, **analysis: Any) -> ExperimentReport:
    """Simulate users who take an item at the rate of the arm that drafted it."""
    made, draw, rng = interleaved(**analysis), Random(seed), np.random.default_rng(seed)
    assigner = Experiments(ExperimentFile(experiments=(made,)))
    exposures, outcomes = [], []
    for user in range(users):
        found, time = assigner.assign(user, START), START + user
        one, other = (rng.choice(60, 8, replace=False).tolist() for _ in range(2))
        drafted = team_draft(one, other, 6, draw)
        items = [(one, other)[team][place] for team, place in drafted]
        teams = [found.teams[team] for team, _ in drafted]
        exposures.append(
            Exposure(time, user, f"r{user}", "v1+v2", items, found.experiment, found.arm, found.revision, teams=teams)
        )
        for item, (team, _) in zip(items, drafted, strict=True):
            if rng.random() < rates[team]:
                outcomes.append((str(user), time + 60, str(item), 2.0, f"r{user}" if user % 2 else "", "buy", ""))
    columns = ["user", "time", "item", "value", "request", "kind", "key"]
    return report_experiment(made, exposures, pd.DataFrame(outcomes, columns=columns), as_of=START + 20 * DAY)


def test_the_preferred_version_is_found_with_few_users() -> None:
    report = reported((0.1, 0.2), 1)
    (versus,) = report.versus
    assert report.trusted and versus.verdict == "better" and [arm.versions for arm in report.arms] == [["v1"], ["v2"]]
    assert versus.comparison is not None and versus.comparison.low < 0.3 < versus.comparison.high  # 3 of 6 items, 0.1 more each
    worth = reported((0.1, 0.2), 1, outcome="value").versus[0].comparison
    assert worth is not None and worth.difference == pytest.approx(2 * versus.comparison.difference)


def test_no_preference_is_shown_where_there_is_none() -> None:
    reports = [reported((0.15, 0.15), seed, 200) for seed in range(10)]
    shown = sum(each.versus[0].verdict in ("better", "worse") for each in reports)
    assert shown <= binom.ppf(0.999, 10, 0.05) and all(each.trusted for each in reports)


def test_an_interleaving_has_two_arms_and_a_revision_of_its_own() -> None:
    with pytest.raises(ValidationError, match="interleaves 3 arms: give it two"):
        experiment(kind="interleaving", arms=[{"name": "a"}, {"name": "b", "version": "v2"}, {"name": "c", "version": "v3"}])
    assert interleaved().revision != experiment().revision
