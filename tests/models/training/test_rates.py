"""The learning rate rises in the warm-up and then follows its schedule, and depends on nothing but the place of the step."""

from __future__ import annotations

import numpy as np
import pytest

from models.training import Rates


def whole(rates: Rates, steps: int) -> np.ndarray:
    return np.concatenate([rates.of_epoch(epoch, steps) for epoch in range(1, rates.epochs + 1)])


def test_without_a_schedule_the_rate_stays() -> None:
    assert not Rates(0.01, 5).vary and (Rates(0.01, 5).of_epoch(3, 4) == 0.01).all()


def test_the_rate_rises_to_its_peak_in_the_warm_up_and_stays_there() -> None:
    found = whole(Rates(0.01, 10, warm_up=0.2), 50)
    assert (np.diff(found[:100]) > 0).all() and 0 < found[0] < 1e-4 * 2 and (found[100:] == 0.01).all()


def test_the_rate_falls_like_half_a_cosine_to_zero_after_the_warm_up() -> None:
    found = whole(Rates(0.01, 10, warm_up=0.1, schedule="cosine"), 50)
    assert found.argmax() in (49, 50) and (np.diff(found[50:]) < 0).all() and 0 < found[-1] < 1e-6
    assert found[275] == pytest.approx(0.005, rel=0.01)  # halfway between the warm-up and the end


def test_epochs_of_different_lengths_have_the_rates_of_the_same_times() -> None:
    rates = Rates(0.01, 4, warm_up=0.3, schedule="cosine")
    short, long = rates.of_epoch(2, 10), rates.of_epoch(2, 11)
    assert np.allclose(np.interp(np.arange(0.5, 10) / 10, np.arange(0.5, 11) / 11, long), short, rtol=0.02)
    assert (Rates(0.01, 2, schedule="cosine").of_epoch(3, 5) == 0).all()  # after the planned epochs
