"""Bounds that are left empty follow the data: MovieLens 100K has its usual ones, and a large catalogue is not held for its size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from configs.settings import FloorSettings, PromotionSettings
from models.evaluation import Ranking, gini_of_events, list_metrics
from models.recommender import Sequences
from tasks.gate.inputs import Challenger
from tasks.gate.rules import health_rules
from tests.tasks.gate.test_rules import GOOD

ITEMS, REQUESTS = 59_047, 6_000


def train_part(events: npt.NDArray[np.int64]) -> Sequences:
    """A train part in which item i has events[i] events."""
    items = np.repeat(np.arange(len(events)), events)
    return Sequences(np.zeros(1, np.int64), np.array([0, len(items)]), items, np.zeros(len(items), np.int64))


def long_tail(items: int) -> npt.NDArray[np.int64]:
    """Events of each item, about as skewed as in MovieLens 25M."""
    return np.maximum(np.exp(np.random.default_rng(0).normal(0, 2.4, items)), 1).astype(np.int64)


def ranked(top: npt.NDArray[np.int64], items: int) -> Ranking:
    count = len(top)
    return Ranking(np.arange(count), np.zeros(count, np.int64), np.ones(count, np.int64), np.arange(items), top.astype(np.int32))


def drawn(weights: npt.NDArray[np.float64], requests: int) -> Ranking:
    """Lists of ten different items, drawn by weight (the Gumbel trick), from the heaviest 2,000 items."""
    rng = np.random.default_rng(1)
    heavy = np.argsort(-weights)[:2000]
    noise = rng.gumbel(size=(requests, len(heavy))) + np.log(weights[heavy])
    return ranked(heavy[np.argpartition(-noise, 10, axis=1)[:, :10]], len(weights))


def failed(ranking: Ranking, train: Sequences, settings: PromotionSettings = PromotionSettings()) -> set[str]:  # noqa: B008
    challenger = Challenger("new", ranking, list_metrics(ranking, train), GOOD, gini_of_events=gini_of_events(ranking, train))
    return {rule.name for rule in health_rules(challenger, settings) if rule.verdict == "failed"}


@pytest.mark.full
def test_a_sound_model_of_a_large_catalogue_passes_and_a_collapsed_one_is_held() -> None:
    events = long_tail(ITEMS)
    train, sound = train_part(events), drawn(events**1.2, REQUESTS)
    assert 0.99 < list_metrics(sound, train)["gini@10"] < 0.995
    assert not failed(sound, train)
    assert failed(sound, train, PromotionSettings(max_gini=0.99)) == {"gini@10"}, "a bound that is given stays as it is"
    same = ranked(np.tile(np.arange(10), (REQUESTS, 1)), ITEMS)
    assert failed(same, train) == {"gini@10", "coverage@10"}
    few = ranked(np.random.default_rng(0).integers(0, 60, (REQUESTS, 10)), ITEMS)
    assert failed(few, train) == {"gini@10", "coverage@10"}


@pytest.mark.parametrize(
    ("items", "requests", "gini", "most"), [(1349, 943, 0.57, 0.99), (1282, 166, 0.65, 0.99), (3416, 6040, 0.65, 0.99)]
)
def test_the_usual_bounds_hold_for_movielens_100k_and_1m(items: int, requests: int, gini: float, most: float) -> None:
    settings = PromotionSettings()
    assert settings.most_gini(gini) == most and settings.least_coverage(items, 10 * requests) == 0.02
    assert settings.floors.at(items) == {"hr@10": 0.10, "ndcg@10": 0.05}


def test_floors_fall_with_chance_in_a_large_catalogue_unless_they_are_given() -> None:
    floors = FloorSettings().at(ITEMS)
    assert floors["hr@10"] == pytest.approx(400 / ITEMS) and 0.002 < floors["ndcg@10"] < floors["hr@10"]
    assert FloorSettings(hr_at_10=0.2).at(ITEMS) == {"hr@10": 0.2, "ndcg@10": floors["ndcg@10"]}
    assert FloorSettings().at(3) == {"hr@10": 0.10, "ndcg@10": 0.05}


def test_few_requests_need_not_show_more_items_than_they_have_places_for() -> None:
    settings = PromotionSettings()
    train = train_part(long_tail(ITEMS))
    spread = ranked(np.arange(800).reshape(80, 10) * 7, ITEMS)  # 800 places, each with another item
    assert settings.least_coverage(ITEMS, 800) == pytest.approx(0.02 * 800 / ITEMS)
    assert not failed(spread, train)
    assert failed(replace(spread, top=np.tile(spread.top[:1], (80, 1))), train) == {"coverage@10", "gini@10"}
