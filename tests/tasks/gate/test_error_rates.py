"""How often the gate errs, on ranks that two trainings of one model might have given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from models.evaluation import Ranking
from tasks.gate import Decision
from tasks.gate.rules import decide
from tests.tasks.gate.test_rules import USERS, inputs, ranking, replace_settings

SETTINGS = replace_settings(resamples=1100, baselines=(), floors={"hr_at_10": 0.0, "ndcg_at_10": 0.0})
SLICES = {"new users": np.arange(USERS) < 150, "others": np.arange(USERS) >= 150}
Scale = npt.NDArray[np.float64] | float


def trained(latent: npt.NDArray[np.float64], rng: np.random.Generator, scale: Scale = 1.0) -> Ranking:
    """Ranks near `latent`, as another seed would give them; a `scale` below 1 makes them better."""
    noisy = latent * scale * np.exp(rng.normal(0.0, 0.5, len(latent)))
    return replace(ranking(0.5), ranks=np.maximum(1, noisy.astype(np.int64)))


def judged(runs: int, challenger_scale: Scale) -> list[Decision]:
    rng = np.random.default_rng(11)
    latent = rng.geometric(1 / 40, USERS).astype(np.float64)
    return [decide(inputs(trained(latent, rng, challenger_scale), trained(latent, rng), SLICES), SETTINGS) for _ in range(runs)]


def promoted(decisions: list[Decision]) -> float:
    return float(np.mean([decision.outcome == "promoted" for decision in decisions]))


@pytest.mark.full
def test_of_two_hundred_equal_challengers_at_most_one_in_twenty_is_promoted() -> None:
    assert promoted(judged(200, 1.0)) <= 0.05


@pytest.mark.full
def test_a_clear_gain_is_mostly_promoted_and_a_small_one_is_held_with_the_least_detectable_gain() -> None:
    clear, small = judged(40, 0.6), judged(40, 0.95)
    assert promoted(clear) >= 0.9 > promoted(small)
    for decision in small:
        least = decision.comparisons[0].detectable
        assert (
            decision.outcome == "promoted"
            or f"a true difference below {least:.4f} would usually go undetected" in decision.reasons[0]
        )


def test_a_gain_paid_for_by_new_users_is_held_and_names_them() -> None:
    scale = np.where(SLICES["new users"], 4.0, 0.4)
    decisions = judged(20, scale)
    assert all(decision.comparisons[0].ci_low > 0 for decision in decisions), "the challenger is meant to gain overall"
    assert promoted(decisions) == 0
    assert all(any(reason.startswith("new users") for reason in decision.reasons) for decision in decisions)
