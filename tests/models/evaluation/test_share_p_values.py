"""The exact test of a share that may be looked at at any time."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import mean_bounds, share_p_values


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.25])
def test_chance_is_taken_for_a_difference_at_any_look_no_more_often_than_alpha(share: float, more: bool) -> None:
    rng = np.random.default_rng(5)
    found = [share_p_values(rng.random(2000) < share, share, more=more).min() <= 0.05 for _ in range(150)]
    assert np.mean(found) <= 0.1  # 0.05, and what chance adds in 150 trials; a test for one look errs in a third of them


def test_three_units_are_enough_where_almost_none_is_expected() -> None:
    p = share_p_values(np.ones(4, dtype=bool), 0.05, more=True)
    assert p[0] > 0.05 and p[2] < 0.001 and (np.diff(p) <= 0).all()


def test_each_side_finds_its_own_difference_only() -> None:
    inside = np.random.default_rng(1).random(5000) < 0.15
    assert share_p_values(inside, 0.2, more=False)[-1] < 1e-6 and share_p_values(inside, 0.2, more=True)[-1] > 0.05
    assert share_p_values(inside, 0.1, more=True)[-1] < 1e-6
    with pytest.raises(ValueError, match="between 0 and 1"):
        share_p_values(inside, 1.0, more=True)
    assert len(share_p_values(inside[:0], 0.2, more=True)) == 0


def test_the_bounds_of_a_mean_hold_it_at_every_look() -> None:
    rng = np.random.default_rng(2)
    held = []
    for _ in range(200):
        low, high = mean_bounds(rng.beta(2, 6, 1000), alpha=0.05, tuned=500)
        held.append(bool(((low <= 0.25) & (high >= 0.25)).all()))
    assert np.mean(held) >= 0.95 and np.isfinite(high[-1]) and not np.isfinite(high[50])
