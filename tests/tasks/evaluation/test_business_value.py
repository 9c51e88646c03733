from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.settings import ValueSettings
from models.evaluation import MISS, Ranking
from tasks.evaluation.business_value import Value, ValueEstimate, expected_clicks, value_of


def ranking(ranks: list[int]) -> Ranking:
    users = np.arange(len(ranks))
    return Ranking(users, users, np.array(ranks), users, np.zeros((len(ranks), 0), dtype=np.int32))


def valued(rankings: dict[str, list[int]], settings: ValueSettings) -> Value:
    made = {name: ranking(ranks) for name, ranks in rankings.items()}
    return value_of(made, "ss4rec", settings, resamples=500, seed=3)


RANKS = st.lists(st.one_of(st.integers(1, 15), st.just(MISS)), min_size=1, max_size=20)


@given(RANKS, st.integers(1, 12), st.floats(0, 1), st.floats(0, 1))
def test_clicks_equal_the_formula_and_fall_with_the_rank(ranks: list[int], positions: int, first: float, patience: float) -> None:
    settings = ValueSettings(positions=positions, click_through=first, patience=patience)
    found = expected_clicks(np.array(ranks), settings)
    assert found == pytest.approx([first * patience ** (rank - 1) if rank <= positions else 0.0 for rank in ranks])
    order = np.argsort(ranks, kind="stable")
    assert (np.diff(found[order]) <= 1e-12).all()


def test_measured_click_through_takes_the_place_of_the_formula() -> None:
    settings = ValueSettings(click_through_at=(0.2, 0.25, 0.1), positions=10, click_through=0.9)
    assert expected_clicks(np.array([1, 2, 3, 4, MISS]), settings).tolist() == [0.2, 0.25, 0.1, 0.0, 0.0]
    assumptions = " ".join(valued({"ss4rec": [1, 2]}, settings).assumptions)
    assert (
        "3 films are shown" in assumptions and "business_value.click_through_at" in assumptions and "patience" not in assumptions
    )


def test_money_follows_from_clicks_by_the_settings() -> None:
    settings = ValueSettings(
        click_through_at=(0.5, 0.1), watch_rate=0.4, revenue_per_watch=2.0, requests_per_month=5000, currency="EUR"
    )
    found = valued({"popularity": [2, 9, 9, 9], "ss4rec": [1, 2, 9, 9]}, settings)
    assert found.currency == "EUR" and set(found.models) == {"popularity", "ss4rec"} and set(found.differences) == {"popularity"}

    def means(estimate: ValueEstimate) -> list[float]:
        return [figure.mean for figure in (estimate.clicks, estimate.watches, estimate.revenue, estimate.revenue_per_month)]

    assert means(found.models["ss4rec"]) == pytest.approx([150, 60, 120, 600])
    assert means(found.models["popularity"]) == pytest.approx([25, 10, 20, 100])
    assert means(found.differences["popularity"]) == pytest.approx([125, 50, 100, 500])
    for number in ("40.0%", "2 EUR", "5,000 requests", "50.0% at rank 1 to 10.0% at rank 2"):
        assert number in " ".join(found.assumptions)


def test_a_difference_is_paired_by_request() -> None:
    """Ranks vary much between requests and little between models. So the difference is known far better than either value."""
    rng = np.random.default_rng(0)
    base = rng.integers(1, 12, 800)
    worse = base + (rng.random(800) < 0.3)
    found = valued({"ncf": worse.tolist(), "ss4rec": base.tolist()}, ValueSettings())

    def width(estimate: ValueEstimate) -> float:
        return estimate.clicks.high - estimate.clicks.low

    lead = found.differences["ncf"]
    assert width(lead) < width(found.models["ss4rec"]) / 2 and lead.clicks.low > 0
    assert lead.clicks.mean == pytest.approx(found.models["ss4rec"].clicks.mean - found.models["ncf"].clicks.mean)
    for estimate in (*found.models.values(), lead):
        assert estimate.clicks.low <= estimate.clicks.mean <= estimate.clicks.high


def test_two_models_that_rank_alike_do_not_differ_in_value() -> None:
    found = valued({"ncf": [1, 5, MISS], "ss4rec": [1, 5, MISS]}, ValueSettings())
    lead = found.differences["ncf"].revenue_per_month
    assert (lead.mean, lead.low, lead.high) == (0, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"click_through": 1.2},
        {"patience": -0.1},
        {"click_through_at": (0.3, 2.0)},
        {"watch_rate": 5},
        {"revenue_per_watch": -1},
        {"revenue_per_watch": float("inf")},
        {"positions": 0},
        {"clickthrough": 0.1},
    ],
)
def test_impossible_assumptions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ValueSettings.model_validate(wrong)
