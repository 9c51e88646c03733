from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import (
    confidence_interval,
    confidence_intervals,
    detectable_difference,
    holm,
    paired_test,
    standard_error,
)


def test_a_model_against_itself_is_never_better() -> None:
    values = np.random.default_rng(0).random(300)
    test = paired_test(values, values, resamples=500, seed=1)
    assert test.p_value == 1.0 and test.difference == 0.0 and (test.ci_low, test.ci_high) == (0.0, 0.0)


def test_a_shift_is_found_and_its_interval_contains_it() -> None:
    rng = np.random.default_rng(0)
    b = rng.random(800)
    a = b + rng.normal(0.05, 0.2, 800)
    test = paired_test(a, b, resamples=2000, seed=1)
    assert test.p_value < 0.001 and test.ci_low < 0.05 < test.ci_high
    assert paired_test(b, a, resamples=2000, seed=1).p_value > 0.99


def test_p_values_are_uniform_if_there_is_no_difference() -> None:
    rng = np.random.default_rng(3)
    p = [paired_test(rng.random(60), rng.random(60), resamples=300, seed=i).p_value for i in range(300)]
    for level in (0.1, 0.3, 0.5, 0.8):
        assert abs(np.mean(np.array(p) <= level) - level) < 0.1


def test_a_margin_moves_the_null() -> None:
    rng = np.random.default_rng(0)
    b = rng.random(500)
    a = b - 0.01 + rng.normal(0, 0.02, 500)
    assert paired_test(a, b, resamples=1000, seed=1).p_value > 0.99
    assert paired_test(a, b, resamples=1000, seed=1, margin=-0.02).p_value < 0.01


def test_the_same_seed_gives_the_same_p() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    first, second = (paired_test(a, b, resamples=777, seed=5) for _ in range(2))
    assert first == second


def test_a_few_gains_without_a_loss_have_the_p_of_the_sign_test() -> None:
    for better in (1, 2, 4, 6):
        gains = np.where(np.arange(50) < better, 0.5, 0.0)
        assert paired_test(gains, np.zeros(50), resamples=2000, seed=1).p_value == pytest.approx(0.5**better)
    assert paired_test(np.ones(1), np.zeros(1), resamples=2000, seed=1).p_value == 0.5
    many = paired_test(np.ones(5000), np.zeros(5000), resamples=2000, seed=1)
    assert 0 <= many.p_value < 1e-12, "the patterns are counted, not drawn"


def test_counted_and_drawn_sign_patterns_agree() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 3, 40) / 2, rng.integers(0, 3, 40) / 2
    counted = paired_test(a, b, resamples=20_000, seed=2).p_value
    jittered = paired_test(a + rng.normal(0, 1e-6, 40), b, resamples=20_000, seed=2).p_value  # too many distinct values to count
    assert counted == pytest.approx(jittered, abs=0.02)


def test_an_error_that_all_requests_share_widens_the_test_and_the_interval() -> None:
    rng = np.random.default_rng(5)
    b = rng.random(400)
    a = b + rng.normal(0.03, 0.1, 400)
    alone, shared = (paired_test(a, b, resamples=4000, seed=1, common_sd=sd) for sd in (0.0, 0.02))
    assert alone.p_value < 0.001 < 0.04 < shared.p_value < 0.12
    assert shared.ci_high - shared.ci_low > 3 * (alone.ci_high - alone.ci_low)
    expected = (float(np.var(a - b, ddof=1)) / 400 + 0.02**2) ** 0.5
    assert standard_error(a - b, 0.02) == pytest.approx(expected)


def test_few_equal_trainings_are_shown_to_be_better_if_the_test_knows_how_much_trainings_differ() -> None:
    rng = np.random.default_rng(6)
    found = {0.0: 0, 0.04: 0}
    for seed in range(120):
        luck = rng.normal(0, 0.04)
        a, b = rng.normal(luck, 0.2, 200).round(1), rng.normal(0, 0.2, 200).round(1)
        for sd in found:
            found[sd] += paired_test(a, b, resamples=400, seed=seed, common_sd=sd).p_value <= 0.05
    assert found[0.0] > 16 > 12 > found[0.04]


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0])])
def test_what_cannot_be_compared_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"paired arrays|not finite"):
        paired_test(np.array(a), np.array(b), resamples=100, seed=0)


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), max_size=7), st.floats(0.01, 0.2))
def test_holm_rejects_as_its_definition_does(p_values: dict[str, float], alpha: float) -> None:
    found = holm(p_values, alpha)
    ordered = sorted(p_values.items(), key=lambda entry: entry[1])
    still = True
    for step, (name, p) in enumerate(ordered):
        still = still and p * (len(ordered) - step) <= alpha
        assert found[name][1] == still
        assert p <= found[name][0] <= 1


def test_intervals_and_detectable_differences_shrink_with_more_requests() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, 50), rng.normal(0, 1, 5000)
    low, high = confidence_interval(small, resamples=500, seed=0)
    narrow = confidence_interval(large, resamples=500, seed=0)
    assert high - low > narrow[1] - narrow[0]
    assert detectable_difference(small, 0.05) > detectable_difference(large, 0.05) > 0
    assert detectable_difference(small[:1], 0.05) == float("inf")


def test_intervals_of_several_metrics_equal_those_of_each_alone() -> None:
    rng = np.random.default_rng(5)
    ranks = rng.geometric(0.1, 400)
    columns = {"hr": (ranks <= 10).astype(float), "mrr": np.where(ranks <= 10, 1 / ranks, 0.0)}
    found = confidence_intervals(columns, resamples=4000, seed=3)
    for name, values in columns.items():
        assert found[name] == pytest.approx(confidence_interval(values, resamples=4000, seed=4), abs=0.006)
    assert confidence_intervals({}, resamples=10, seed=0) == {}


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_resamples_have_the_mean_and_spread_that_theory_gives_them(requests: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, requests).astype(float)
    test = paired_test(values, np.zeros(requests), resamples=3000, seed=seed)
    error = float(values.std()) / np.sqrt(requests)
    assert test.ci_low <= test.difference <= test.ci_high
    assert test.ci_high - test.ci_low <= 2 * 1.96 * error * 1.35 + 4 / requests


def test_an_interval_contains_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    held = 0
    for seed in range(200):
        low, high = confidence_interval(rng.random(80) < 0.4, resamples=400, seed=seed)
        held += low <= 0.4 <= high
    assert 180 <= held <= 199
