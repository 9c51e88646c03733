"""What the ranks of offline requests would be worth, under assumptions that are printed beside every figure.

A request whose target stands at rank r is clicked with the click-through of a relevant item at r, a click becomes a watch with
the watch rate, and a watch brings the revenue per watch. It decides nothing: the gate reads ranks.

What offline hits do not tell. There is no counterfactual: the held-out film was watched without our list, so a hit may be a
film that the user would have found anyway, and what the list itself would have changed is not in the data. Films that were
shown and never watched count as worth nothing, although some would have been liked, and other films of the list count nothing
beside the one target. The users of a data set are not those of a site. So the level of a figure is as good as its assumptions,
a difference between models is its direction and rough size, and only an online experiment measures either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from configs.settings import ValueSettings
from models.ranking import FloatArray, Ranking
from models.recommender import IntArray
from models.significance import confidence_intervals, paired_bootstrap

__all__ = ["Estimate", "Figure", "Value", "expected_clicks", "value_of"]


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % bootstrap interval over requests; the assumptions are taken as exact."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Figure:
        """In another unit; `factor` >= 0."""
        return Figure(self.mean * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Estimate:
    """Of one model, or of the difference of two on the same requests."""

    clicks: Figure  # per 1,000 requests
    watches: Figure  # per 1,000 requests
    revenue: Figure  # per 1,000 requests, in the settings' currency
    revenue_per_month: Figure


@dataclass(frozen=True)
class Value:
    """Estimates with what they rest on."""

    currency: str
    models: dict[str, Estimate]
    differences: dict[str, Estimate]  # baseline -> challenger - baseline, paired by request
    assumptions: list[str]


def value_of(rankings: Mapping[str, Ranking], challenger: str, settings: ValueSettings, *, resamples: int, seed: int) -> Value:
    """Value of every model of `rankings`, all of the same requests, and of the challenger over each other one."""
    clicks = {name: expected_clicks(ranking.ranks, settings) for name, ranking in rankings.items()}
    models, differences = {}, {}
    for name, values in clicks.items():
        low, high = confidence_intervals({name: values}, resamples=resamples, seed=seed)[name]
        models[name] = _estimate(Figure(float(values.mean()), low, high), settings)
        if name != challenger:
            test = paired_bootstrap(clicks[challenger], values, resamples=resamples, seed=seed)
            differences[name] = _estimate(Figure(test.difference, test.ci_low, test.ci_high), settings)
    return Value(settings.currency, models, differences, _assumptions(settings))


def expected_clicks(ranks: IntArray, settings: ValueSettings) -> FloatArray:
    """(R,) probability that each request's target is clicked; 0 below the shown positions and of a miss."""
    by_position = np.array([*settings.click_through_by_position, 0.0])
    shown = len(by_position) - 1
    return by_position[np.minimum(ranks - 1, shown)]


def _estimate(clicks_per_request: Figure, settings: ValueSettings) -> Estimate:
    clicks = clicks_per_request.times(1000)
    watches = clicks.times(settings.watch_rate)
    revenue = watches.times(settings.revenue_per_watch)
    return Estimate(clicks, watches, revenue, revenue.times(settings.requests_per_month / 1000))


def _assumptions(settings: ValueSettings) -> list[str]:
    by_position = settings.click_through_by_position
    source = (
        "as given in value.click_through_at"
        if settings.click_through_at
        else f"value.click_through x value.patience ^ (r - 1), with patience {settings.patience:g}"
    )
    return [
        f"{len(by_position)} films are shown; a target that is not among them is not clicked.",
        f"A relevant film at rank r is clicked with a probability of {by_position[0]:.1%} at rank 1 to {by_position[-1]:.1%} at rank "
        f"{len(by_position)} ({source}).",
        f"{settings.watch_rate:.1%} of the clicks become a watch (value.watch_rate).",
        f"A watch brings {settings.revenue_per_watch:g} {settings.currency} (value.revenue_per_watch).",
        f"There are {settings.requests_per_month:,} requests a month (value.requests_per_month).",
        "Only the held-out film counts, and it was watched without this list: no figure says what showing the list would change.",
        "Intervals are over requests and take the assumptions as exact. Nothing of this decides on a promotion.",
    ]
