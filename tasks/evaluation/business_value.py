"""Estimate what the ranks of offline requests would be worth. The assumptions are printed next to every figure.

A request whose target is at rank r is clicked with the click-through of a relevant item at r. A click becomes an action, such as a
watch or a purchase, with the watch rate, and an action brings the revenue per watch. The estimate decides nothing: the gate reads
ranks.

Offline hits have limits. There is no counterfactual: the held-out item was chosen without our list. So a hit may be an item that
the user would have found anyway, and the data does not show what the list itself would have changed. Items that were shown and
never chosen count as worth nothing, although users would have liked some of them. Only the one target counts, not the other
items of the list. The users of a dataset are not those of a site. So the level of a figure is only as good as its assumptions,
and a difference between models shows only direction and rough size. Only an online experiment measures either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from configs.settings import DEFAULT_NOUNS, NounSettings, ValueSettings
from models.evaluation import FloatArray, Ranking, confidence_intervals, paired_test
from models.recommender import IntArray

__all__ = ["Figure", "Value", "ValueEstimate", "expected_clicks", "value_of"]


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % bootstrap interval over requests. The assumptions are treated as exact."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Figure:
        """Return the figure in another unit; `factor` >= 0."""
        return Figure(self.mean * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class ValueEstimate:
    """The estimate for one model, or for the difference between two models on the same requests."""

    clicks: Figure  # per 1,000 requests
    watches: Figure  # or other actions, per 1,000 requests
    revenue: Figure  # per 1,000 requests, in the settings' currency
    revenue_per_month: Figure


@dataclass(frozen=True)
class Value:
    """Estimates, with the assumptions behind them."""

    currency: str
    models: dict[str, ValueEstimate]
    differences: dict[str, ValueEstimate]  # baseline -> challenger - baseline, paired by request
    assumptions: list[str]
    actions: str = DEFAULT_NOUNS.actions  # what a click leads to


def value_of(
    rankings: Mapping[str, Ranking],
    challenger: str,
    settings: ValueSettings,
    nouns: NounSettings = DEFAULT_NOUNS,
    *,
    resamples: int,
    seed: int,
) -> Value:
    """Estimate the value of each model, and of the challenger over each other model.

    Args:
        rankings: Rankings of the same requests, by model.
        challenger: Name of the challenger.
        settings: The assumptions.
        nouns: The words for the data.
        resamples: Number of resamples of the intervals.
        seed: Seed of the resamples.
    """
    clicks = {name: expected_clicks(ranking.ranks, settings) for name, ranking in rankings.items()}
    models, differences = {}, {}
    for name, values in clicks.items():
        low, high = confidence_intervals({name: values}, resamples=resamples, seed=seed)[name]
        models[name] = _estimate(Figure(float(values.mean()), low, high), settings)
        if name != challenger:
            test = paired_test(clicks[challenger], values, resamples=resamples, seed=seed)
            differences[name] = _estimate(Figure(test.difference, test.ci_low, test.ci_high), settings)
    return Value(settings.currency, models, differences, _assumptions(settings, nouns), nouns.actions)


def expected_clicks(ranks: IntArray, settings: ValueSettings) -> FloatArray:
    """(R,) probability that each request's target is clicked; 0 for a miss and below the shown positions."""
    by_position = np.array([*settings.click_through_by_position, 0.0])
    shown = len(by_position) - 1
    return by_position[np.minimum(ranks - 1, shown)]


def _estimate(clicks_per_request: Figure, settings: ValueSettings) -> ValueEstimate:
    clicks = clicks_per_request.times(1000)
    watches = clicks.times(settings.watch_rate)
    revenue = watches.times(settings.revenue_per_watch)
    return ValueEstimate(clicks, watches, revenue, revenue.times(settings.requests_per_month / 1000))


def _assumptions(settings: ValueSettings, nouns: NounSettings) -> list[str]:
    by_position = settings.click_through_by_position
    source = (
        "as given in business_value.click_through_at"
        if settings.click_through_at
        else f"business_value.click_through x business_value.patience ^ (r - 1), with patience {settings.patience:g}"
    )
    return [
        f"{len(by_position)} {nouns.items} are shown; a target that is not among them is not clicked.",
        f"A relevant {nouns.item} at rank r is clicked with a probability of {by_position[0]:.1%} at rank 1 to {by_position[-1]:.1%} at rank "
        f"{len(by_position)} ({source}).",
        f"{settings.watch_rate:.1%} of the clicks lead to {nouns.actions} (business_value.watch_rate).",
        f"One {nouns.action} brings {settings.revenue_per_watch:g} {settings.currency} (business_value.revenue_per_watch).",
        f"There are {settings.requests_per_month:,} requests a month (business_value.requests_per_month).",
        f"Only the held-out {nouns.item} counts, and it was chosen without this list, so no figure shows what the list would change.",
        "Intervals are over requests and treat the assumptions as exact. None of these figures affects a promotion.",
    ]
