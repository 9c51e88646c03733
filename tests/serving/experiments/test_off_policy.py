"""Estimates from exposures hold the truth as often as they say, and there is no figure where the data cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from configs.errors import SourceError
from configs.serving import AnalysisSettings, Exploration
from serving.experiments import (
    Exposure,
    OffPolicyReport,
    chances,
    estimate_rows,
    explored,
    mixed,
    render_estimate,
    report_off_policy,
)

START = 1_750_000_000
TYPES, CATALOGUE, LIST = 4, 40, 4
EXPLORING = Exploration(share=0.5, pool=12)
WORLD = np.random.default_rng(7)
RATES = WORLD.uniform(0.02, 0.4, (TYPES, CATALOGUE))  # chance that a user of a type takes a shown item
SERVED = np.argsort(WORLD.normal(size=(TYPES, CATALOGUE)) - RATES * 2, axis=1)  # rankings that are good, but not the best
OTHER = np.stack([row[:12][np.argsort(-RATES[kind][row[:12]] + WORLD.normal(0, 0.1, 12))] for kind, row in enumerate(SERVED)])
TRUTH = float(np.mean([RATES[kind][OTHER[kind][:LIST]].sum() for kind in range(TYPES)]))


def lived(seed: int, users: int, visits: int = 2) -> tuple[list[Exposure], pd.DataFrame]:
    """Return exposures of an exploring server with a shadow, and what users did."""
    draw, rng = Random(seed), np.random.default_rng(seed)
    exposures, outcomes = [], []
    for user in range(users):
        kind = int(rng.integers(TYPES))
        ranking: list[int] = SERVED[kind].tolist()
        known = chances(ranking[: EXPLORING.pool], LIST, (), EXPLORING)
        for visit in range(visits):
            shown = explored(ranking, LIST, (), EXPLORING, draw)
            others = [(item, chance) for item, chance in known.items() if item not in shown]
            request, time = f"r{user}-{visit}", START + visit * 1000
            exposures.append(Exposure(time, user, request, "v1", shown, propensities=[known[i] for i in shown], others=others))
            exposures.append(Exposure(time, user, request, "v2-abc", OTHER[kind][:LIST].tolist(), shadow=True))
            for item in shown:
                if rng.random() < RATES[kind][item]:
                    outcomes.append((str(user), time + 5, str(item), 1.0, request if visit else "", "click", ""))
    columns = ["user", "time", "item", "value", "request", "kind", "key"]
    return exposures, pd.DataFrame(outcomes, columns=columns)


def estimated(seed: int, users: int, **analysis: Any) -> OffPolicyReport:
    return report_off_policy("v2", *lived(seed, users), AnalysisSettings.model_validate({"min_users": 30} | analysis))


def held(reports: Sequence[OffPolicyReport], name: str) -> int:
    return sum(each.estimates[name].low <= TRUTH <= each.estimates[name].high for each in reports)


def test_few_simulated_experiments_hold_the_truth() -> None:
    reports = [estimated(seed, 150) for seed in range(12)]
    for name in ("ips", "snips", "dr"):
        assert held(reports, name) >= binom.ppf(0.001, 12, 0.95), name
        assert abs(np.mean([each.estimates[name].value for each in reports]) - TRUTH) < 0.1
    assert reports[0].overlap == 1 and reports[0].effective_users < 150


@pytest.mark.nightly
def test_the_intervals_of_a_thousand_simulated_experiments_hold_the_truth_as_often_as_they_say() -> None:
    reports = [estimated(seed, 300) for seed in range(1000)]
    low, high = binom.ppf([0.0001, 0.9999], 1000, 0.95)
    for name in ("ips", "snips", "dr"):
        assert low - 10 <= held(reports, name) <= high, name  # the intervals are those of large samples: 1 % less is accepted
        values = [each.estimates[name].value for each in reports]
        assert abs(np.mean(values) - TRUTH) < 4 * np.std(values) / np.sqrt(1000) + 0.002, name
    widths = {name: np.mean([each.estimates[name].high - each.estimates[name].low for each in reports]) for name in ("ips", "dr")}
    assert widths["dr"] < widths["ips"]


def test_without_the_logged_probabilities_the_truth_would_be_missed() -> None:
    exposures, outcomes = lived(1, 400)
    blind = [replace(each, propensities=None if each.shadow else [1.0] * LIST) for each in exposures]
    report = report_off_policy("v2", blind, outcomes, AnalysisSettings(min_users=30, min_overlap=0))
    assert (
        report.estimates["ips"].high
        < TRUTH
        < report_off_policy("v2", exposures, outcomes, AnalysisSettings(min_users=30)).estimates["ips"].high
    )


def test_too_few_data_and_missing_overlap_are_said_instead_of_a_figure() -> None:
    few = estimated(1, 40, min_users=200)
    assert not few.estimates and "Too few data: the exposures are worth" in few.verdict
    assert {row["95 % interval"] for row in estimate_rows(few)} == {"cannot be told"}
    exposures, outcomes = lived(1, 400)
    certain = [replace(each, propensities=None, others=()) for each in exposures]
    assert 'class="badge better"' in render_estimate(estimated(1, 150)).decode()
    none = report_off_policy("v2", certain, outcomes, AnalysisSettings(min_users=30))
    assert not none.estimates and "Missing overlap" in none.verdict and none.overlap < 0.95
    assert "Missing overlap" in render_estimate(none).decode() and "cannot be told" in render_estimate(none).decode()
    with pytest.raises(SourceError, match="No list of v3 is logged"):
        report_off_policy("v3", exposures, outcomes, AnalysisSettings())


def test_a_value_counts_for_the_list_that_the_outcome_names_or_else_for_the_last_one_with_its_item() -> None:
    lists = [
        Exposure(START + 1000 * number, 1, f"r{number}", "v1", [number % 2, 5]) for number in range(4)
    ]  # item 0 in r0 and r2, item 5 in each
    both = [each for one in lists for each in (one, replace(one, version="v2", shadow=True))]
    rows = [
        ("1", START + 2500, "0", 2.0, "", "buy", ""),  # r2
        ("1", START + 2500, "5", 4.0, "r0", "buy", ""),
        ("1", START + 9000, "5", 8.0, "", "buy", ""),  # too late
        ("1", START + 2600, "5", 16.0, "", "click", ""),  # does not count
        ("2", START + 2500, "0", 32.0, "", "buy", ""),  # somebody else
    ]
    outcomes = pd.DataFrame(rows, columns=["user", "time", "item", "value", "request", "kind", "key"])
    other = [replace(each, user=9, request=f"x{each.request}") for each in both]
    analysis = AnalysisSettings(outcome="value", window_s=3600, kinds=("buy",), min_users=2)
    report = report_off_policy("v2", [*both, *other], outcomes, analysis)
    assert report.estimates["served"].value == report.estimates["ips"].value == pytest.approx(6 / 8)


def test_the_logged_probability_of_an_item_is_that_with_which_it_is_shown() -> None:
    exploring, ranking, pinned = Exploration(share=0.4, pool=5), list("abcdefgh"), {1}
    known, draws, rng = chances(ranking, 3, pinned, exploring), 4000, Random(5)
    shown = [explored(ranking, 3, pinned, exploring, rng) for _ in range(draws)]
    assert all(each[1] == "b" and len(set(each)) == 3 for each in shown)
    assert known.keys() == {"a", "b", "c", "d", "e", "f"} and sum(known.values()) == pytest.approx(3)
    for item, chance in known.items():
        seen = sum(item in each for each in shown) / draws
        assert abs(seen - chance) <= 4.5 * np.sqrt(chance * (1 - chance) / draws) + 1e-9, item
    assert chances(ranking, 2, (), None) == {"a": 1.0, "b": 1.0}
    assert mixed([(0.25, {"a": 1.0, "b": 0.5}), (0.75, {"b": 1.0})]) == {"a": 0.25, "b": 0.875}
    short = chances(["a", "b"], 3, (), exploring)  # fewer items than places
    assert short == {"a": pytest.approx(1.0), "b": pytest.approx(1.0)}
