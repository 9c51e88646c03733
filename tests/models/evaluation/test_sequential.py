"""The sequential test keeps its promises: errors over all looks, power, and agreement with plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.evaluation import compare_arms, ratio_mismatch
from models.evaluation.sequential import difference_path, mixture_precision, ratio_of_means

ALPHA = 0.05
RUNS, USERS = 1000, 4000


def runs(control: float, treated: float, seed: int, count: int = RUNS) -> list[tuple[np.ndarray, np.ndarray]]:
    """Conversions of users who enter one by one and get an arm by chance."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        arm = rng.random(USERS) < 0.5
        made.append(((rng.random(USERS) < np.where(arm, treated, control)).astype(np.float64), arm))
    return made


def test_looking_after_every_user_keeps_the_error_below_alpha_unlike_a_plain_test() -> None:
    sequential = plain = 0
    for values, arm in runs(0.1, 0.1, seed=1):
        path = difference_path(values, arm, alpha=ALPHA, tuned_users=2000)
        shown = (path.low > 0) | (path.high < 0)
        sequential += bool(shown.any())
        looked = np.isfinite(path.low)
        plain += bool((np.abs(path.difference[looked]) > 1.96 * path.error[looked]).any())
        assert shown.any() == (path.p_value[-1] < ALPHA)  # the interval and the p-value are one test
    assert sequential / RUNS < ALPHA
    assert plain / RUNS > 3 * ALPHA


def test_the_interval_contains_the_truth_at_all_looks_for_skewed_values_too() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(300):
        arm = rng.random(3000) < 0.3
        values = rng.exponential(np.where(arm, 1.5, 1.0)) * (rng.random(3000) < 0.4)
        path = difference_path(values, arm, alpha=ALPHA, tuned_users=2000)
        missed += bool(((path.low > 0.2) | (path.high < 0.2)).any())
    assert missed / 300 < ALPHA


def test_a_difference_is_found_and_a_large_one_is_found_early() -> None:
    found = [compare_arms(*run, alpha=ALPHA, tuned_users=2000)[0] for run in runs(0.1, 0.15, seed=3, count=200)]
    decided = [each.decided_at for each in found if each.decided_at is not None and each.difference > 0]
    assert len(decided) / 200 > 0.9
    large = [compare_arms(*run, alpha=ALPHA, tuned_users=2000)[0].decided_at for run in runs(0.1, 0.3, seed=4, count=50)]
    assert all(at is not None and at < USERS / 4 for at in large)


def test_figures_equal_those_of_plain_formulas() -> None:
    values, arm = runs(0.1, 0.15, seed=5, count=1)[0]
    comparison, path = compare_arms(values, arm, alpha=ALPHA, tuned_users=500)
    one, zero = values[arm], values[~arm]
    error = math.sqrt(one.var(ddof=1) / len(one) + zero.var(ddof=1) / len(zero))
    assert comparison.difference == pytest.approx(one.mean() - zero.mean())
    assert path.error[-1] == pytest.approx(error)
    assert comparison.fixed_high - comparison.fixed_low == pytest.approx(2 * stats.norm.ppf(0.975) * error)
    rho2, t = mixture_precision(500, ALPHA), USERS
    width = error * math.sqrt(t) * math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / ALPHA))
    assert comparison.high - comparison.difference == pytest.approx(width)
    assert comparison.low < comparison.fixed_low and comparison.high > comparison.fixed_high
    middle = 1500
    assert path.difference[middle] == pytest.approx(
        values[: middle + 1][arm[: middle + 1]].mean() - values[: middle + 1][~arm[: middle + 1]].mean()
    )


def test_the_interval_is_tightest_where_it_was_tuned() -> None:
    def width(tuned: int, at: int) -> float:
        u = at * mixture_precision(tuned, ALPHA)
        return math.sqrt((u + 1) / u * math.log((u + 1) / ALPHA**2))

    assert min((width(tuned, 1000), tuned) for tuned in (250, 500, 900, 1000, 1100, 2000, 4000))[1] == 1000


@given(
    a=st.lists(st.floats(0.5, 10), min_size=5, max_size=30),
    b=st.lists(st.floats(5, 10), min_size=5, max_size=30),
    multiplier=st.floats(0.1, 4),
)
def test_a_ratio_is_inside_its_interval_if_the_difference_is(a: list[float], b: list[float], multiplier: float) -> None:
    above, below = np.array(a), np.array(b)
    low, high = ratio_of_means(above, below, multiplier)

    def inside(r: float) -> bool:
        error = math.sqrt(above.var(ddof=1) / len(above) + r**2 * below.var(ddof=1) / len(below))
        return abs(above.mean() - r * below.mean()) <= multiplier * error + 1e-9

    assert low is not None and high is not None
    assert low - 1e-9 <= above.mean() / below.mean() <= high + 1e-9
    span = max(high - low, 1e-6)
    assert all(inside(r) for r in np.linspace(low, high, 7))
    assert not inside(low - 0.1 * span - 1e-6) and not inside(high + 0.1 * span + 1e-6)


def test_a_ratio_over_a_mean_that_may_be_zero_has_no_bound() -> None:
    assert ratio_of_means(np.array([1.0, 2.0]), np.array([-1.0, 1.0, 0.5]), 2.0) == (None, None)
    assert ratio_of_means(np.array([1.0]), np.array([2.0, 2.0]), 2.0) == (None, None)


def test_arms_of_the_wrong_sizes_are_noticed_and_right_ones_are_not() -> None:
    assert ratio_mismatch([5000, 4600], [0.5, 0.5]) < 0.001
    assert ratio_mismatch([5000, 4950], [1, 1]) > 0.5
    assert ratio_mismatch([900, 100], [0.9, 0.1]) == 1.0
    assert ratio_mismatch([0, 0], [0.5, 0.5]) == 1.0
    rng = np.random.default_rng(0)
    counts = rng.multinomial(2000, [0.7, 0.3], size=500)
    assert np.mean([ratio_mismatch(list(row), [0.7, 0.3]) < 0.05 for row in counts]) == pytest.approx(0.05, abs=0.03)


def test_no_interval_is_given_before_each_arm_has_enough_users() -> None:
    values, arm = runs(0.1, 0.9, seed=6, count=1)[0]
    path = difference_path(values, arm, alpha=ALPHA, tuned_users=1000, least=300)
    first = np.flatnonzero(np.isfinite(path.low))[0]
    assert min(arm[: first + 1].sum(), (~arm[: first + 1]).sum()) == 300
    assert (path.p_value[:first] == 1).all()
    comparison, _ = compare_arms(values[:50], arm[:50], alpha=ALPHA, tuned_users=1000)
    assert comparison.low == -math.inf and comparison.lift_low is None and comparison.decided_at is None


def test_values_that_are_all_equal_decide_nothing() -> None:
    comparison, _ = compare_arms(np.ones(1000), np.arange(1000) % 2 == 0, alpha=ALPHA, tuned_users=1000)
    assert comparison.difference == 0 and comparison.p_value == 1 and comparison.decided_at is None


def test_invalid_input_is_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        difference_path(np.ones(3), np.ones(2, bool), alpha=ALPHA, tuned_users=10)
    with pytest.raises(ValueError, match="not finite"):
        difference_path(np.array([1.0, np.nan]), np.ones(2, bool), alpha=ALPHA, tuned_users=10)
    with pytest.raises(ValueError, match="each arm needs"):
        compare_arms(np.ones(2), np.ones(2, bool), alpha=ALPHA, tuned_users=10)
