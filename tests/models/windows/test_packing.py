"""Batches are full, and the order in which windows are learnt stays random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.windows.packing import plan_batches

MANY_SHORT = np.array([200] + [50] * 999)


@pytest.mark.parametrize(("tokens", "full", "loose"), [(200, 251, 1000), (256, 201, 892)])
def test_one_long_window_among_short_ones_leaves_no_batch_half_empty(tokens: int, full: int, loose: int) -> None:
    for seed in range(3):
        assert len(plan_batches(MANY_SHORT, tokens, 10_000, np.random.default_rng(seed))) == full
    assert len(plan_batches(MANY_SHORT, tokens, 10_000, np.random.default_rng(0), full=False)) == loose  # the ideal: 251, 201


@given(st.lists(st.integers(1, 20), max_size=120), st.integers(20, 70), st.integers(1, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_window_is_in_one_batch_that_holds_no_more_than_it_may(
    lengths: list[int], tokens: int, most_windows: int, full: bool
) -> None:
    given_lengths = np.array(lengths, np.int64)
    plan = plan_batches(given_lengths, tokens, most_windows, np.random.default_rng(1), full=full)
    assert sorted(np.concatenate([*plan, np.empty(0, np.int64)]).tolist()) == list(range(len(lengths)))
    for rows in plan:
        assert 0 < len(rows) <= most_windows or (not full and len(rows) > 0)
        assert given_lengths[rows].sum() <= tokens


def test_a_full_batch_has_no_room_for_any_of_the_next_windows() -> None:
    lengths = np.random.default_rng(0).integers(1, 101, 2000)
    plan = plan_batches(lengths, 1024, 500, np.random.default_rng(1))
    sizes = np.sort([lengths[rows].sum() for rows in plan])
    assert sizes[2:].min() >= 1000 and len(plan) <= -(-lengths.sum() // 1024) + 1
    loose = plan_batches(lengths, 1024, 500, np.random.default_rng(1), full=False)
    assert len(loose) > 1.07 * len(plan)


def test_over_the_epochs_short_and_long_windows_are_learnt_at_the_same_time() -> None:
    lengths = np.concatenate([np.full(40, 100), np.full(160, 7)])
    places = np.zeros(len(lengths))
    for epoch in range(100):
        plan = plan_batches(lengths, 256, 500, np.random.default_rng([3, epoch]))
        for step, rows in enumerate(plan):
            places[rows] += (step + 0.5) / len(plan)
    places /= 100
    spread = np.sqrt(1 / 12 / 100)  # of the mean place of a window, if it is uniform
    assert np.abs(places - 0.5).max() < 4.5 * spread
    assert abs(places[:40].mean() - places[40:].mean()) < 0.03


def test_the_order_depends_on_the_random_numbers_alone() -> None:
    first, again, other = (plan_batches(MANY_SHORT, 256, 99, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.order, again.order) and np.array_equal(first.bounds, again.bounds)
    assert not np.array_equal(first.order, other.order)


def test_a_window_that_is_longer_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of 200 events does not fit into a batch of 199"):
        plan_batches(MANY_SHORT, 199, 99, np.random.default_rng(1))
