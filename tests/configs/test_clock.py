from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.clock import horizon

DAY = 86_400


def feed(events: int, seed: int = 0) -> np.ndarray:
    return 880_000_000 + np.cumsum(np.random.default_rng(seed).exponential(300, events)).astype(np.int64)


@given(st.integers(20, 3000), st.integers(0, 50), st.sampled_from([DAY, 30 * DAY, 20 * 365 * DAY]))
def test_one_wild_time_does_not_move_the_horizon(events: int, seed: int, ahead: int) -> None:
    times = feed(events, seed)
    spoilt = np.append(times, times.max() + ahead)
    np.random.default_rng(seed).shuffle(spoilt)
    assert horizon(spoilt) <= times.max() and horizon(spoilt) >= np.sort(times)[-2]


def test_the_horizon_of_usual_events_is_the_newest_one() -> None:
    for seed in range(50):
        times = feed(5000, seed)
        assert horizon(times) == times.max()


def test_an_event_later_than_its_own_arrival_does_not_count() -> None:
    times = np.array([1000, 2000, 90_000])
    assert horizon(times) == 90_000 and horizon(times, arrived=2500.5) == 2000
    assert horizon(times, arrived=500) == 500, "all events are from the future"


def test_a_time_an_hour_after_a_batch_of_one_second_does_not_stand_apart() -> None:
    assert horizon(np.append(np.full(200, 1000), 1000 + 3600)) == 4600


def test_no_events_have_no_horizon() -> None:
    with pytest.raises(ValueError, match="no horizon"):
        horizon(np.empty(0, dtype=np.int64))
