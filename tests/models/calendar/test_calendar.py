"""The hour and the weekday of a moment are those of the calendar in UTC, the same in training and in serving."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calendar import DAYS, HOURS, CalendarEmbedding, hours_of_week


@given(st.integers(-(10**9), 10**10))
@settings(max_examples=200, deadline=None)
def test_the_hour_of_the_week_is_that_of_the_calendar(second: int) -> None:
    moment = datetime.fromtimestamp(second, UTC)
    assert int(hours_of_week(np.array([second]))[0]) == moment.weekday() * HOURS + moment.hour


def test_training_and_serving_read_the_same_vectors() -> None:
    layer = CalendarEmbedding(4)
    times = np.random.default_rng(0).integers(-(10**9), 10**10, 500)
    found = layer(torch.from_numpy(times)).detach().numpy()
    table = layer.days.weight[:, None] + layer.hours.weight
    assert np.array_equal(found, table.reshape(DAYS * HOURS, 4).detach().numpy()[hours_of_week(times)])
