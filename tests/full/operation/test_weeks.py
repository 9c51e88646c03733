"""Weeks of operation over one landing zone. After each, the dataset equals an independent merge of all deliveries."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.full.operation.other_weeks import OTHER_WEEKS
from tests.full.operation.town import Town
from tests.full.operation.weeks import WEEKS

Week = Callable[[Town], None]


@pytest.mark.full
@pytest.mark.parametrize(
    "weeks", [WEEKS, pytest.param(OTHER_WEEKS, marks=pytest.mark.nightly)], ids=["accidents", "odd files and times"]
)
def test_after_each_week_the_dataset_equals_an_independent_merge_of_all_deliveries(
    weeks: tuple[Week, ...], tmp_path: Path
) -> None:
    town = Town(tmp_path)
    live(town, weeks)
    assert town.compared >= 2 * len(weeks), "a week was not compared with the truth both after it and after the housekeeping"


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_the_weeks_may_come_in_any_order(seed: int, tmp_path: Path) -> None:
    weeks = [*WEEKS, *OTHER_WEEKS]
    town = Town(tmp_path, seed)
    live(town, random.Random(seed).sample(weeks, len(weeks)))
    assert town.compared >= 2 * len(weeks)


def live(town: Town, weeks: tuple[Week, ...] | list[Week]) -> None:
    """Operate week after week. Compact, prune and monitor after each."""
    town.retrain()
    for what_happens in weeks:
        what_happens(town)
        town.tidy()
        town.watch()
