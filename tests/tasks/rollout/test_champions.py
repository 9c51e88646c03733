"""Bad champions that the gate would let through are returned in the first stage, and equal ones are not."""

from __future__ import annotations

import pytest

from benchmarks.serving.rollouts import CASES, Case, returned_share, simulate
from tests.volume import volume

SHOWN_BY = {
    "30 ms of CPU time slower": ("CPU time", 8_000),
    "empty lists for new users": ("empty lists", 8_000),
    "a clone of popularity": ("variety", 10_000),
    "a crash for one user in 1,000": ("errors", 300_000),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=pytest.mark.full if case.crashes else ()) for case in CASES if case.name in SHOWN_BY],
)
def test_a_bad_champion_is_found_in_the_first_stage_and_touches_few_requests(case: Case) -> None:
    check, users = SHOWN_BY[case.name]
    found = simulate(case, users, seed=1)
    assert check in found.worse and found.worse[check] < 3600
    assert 0.04 < found.new_share < 0.06


@pytest.mark.nightly
def test_a_tenth_fewer_outcomes_are_found_in_the_first_stage() -> None:
    case = next(case for case in CASES if case.outcomes < 1)
    found = simulate(case, 500_000, seed=1)
    assert "outcomes" in found.worse and found.new_share < 0.06


@pytest.mark.full
def test_equal_versions_are_rarely_told_apart() -> None:
    bakes = volume(100, 1000)
    assert returned_share(bakes, 5_000, workers=volume(1, 2)) * bakes <= volume(2, 9)  # 0.5 % of them are allowed to


def test_a_first_stage_of_hardly_any_users_decides_nothing() -> None:
    assert simulate(CASES[0], 300, seed=1).worse == {}
