"""Thresholds that fit the data: where the defaults, which fit MovieLens, would refuse or keep too little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.settings import RetrainSettings
from models.evaluation import k_core
from tasks.survey.columns import SurveyedColumn
from tasks.survey.survey import EventFigures

__all__ = ["Threshold", "thresholds_of"]

KEPT = 0.5  # the k-core must keep this share of the events
SHORT_LIFE = 0.25  # items that live for less of the time span come and go
SMALL = 200_000  # events; below it, a smaller model trains as well
DAY = 86_400
EARLIEST = -(2**33)  # the least value of validation.earliest


@dataclass(frozen=True)
class Threshold:
    """A proposed value of a setting, and why."""

    setting: str
    value: Any
    why: str
    is_needed: bool = False
    """The default would refuse the data, or judge on too few of them."""


def thresholds_of(figures: EventFigures, rating: SurveyedColumn | None) -> list[Threshold]:
    """Return the proposed thresholds.

    Args:
        figures: The figures of the events.
        rating: The column of ratings, if there is one.
    """
    defaults = RetrainSettings()
    found = [_rows(figures, defaults)]
    if figures.first is not None:
        found.append(_earliest(figures.first, defaults))
    if rating is not None:
        found += _ratings(rating, defaults)
    found.append(_core(figures, defaults))
    if figures.life_of_items < SHORT_LIFE:
        why = f"items come and go: half of them live for less than {figures.life_of_items:.0%} of the time span, so one cut in time is closer to use"
        found.append(Threshold("evaluation.protocol", "temporal", why))
    return [*found, *_model(figures, defaults)]


def _rows(figures: EventFigures, defaults: RetrainSettings) -> Threshold:
    least = defaults.validation.min_rows
    proposed = _round(0.8 * figures.counted)
    needed = figures.counted * 0.9 < least
    why = f"{figures.counted:,} events count; fewer than this are refused (default {least:,})"
    return Threshold("validation.min_rows", max(1, proposed), why, needed)


def _earliest(first: int, defaults: RetrainSettings) -> Threshold:
    default = defaults.validation.earliest
    proposed = max(first - first % DAY, EARLIEST)
    why = "UTC seconds: the day of the first event; earlier times are quarantined"
    if first < default:
        return Threshold("validation.earliest", proposed, f"{why} (the default, {default}, would quarantine events)", True)
    return Threshold("validation.earliest", proposed, f"{why} (default {default})")


def _ratings(rating: SurveyedColumn, defaults: RetrainSettings) -> list[Threshold]:
    low, high = float(rating.low), float(rating.high)
    given = defaults.validation
    return [
        Threshold(
            "validation.min_rating", low, f"the lowest rating found (default {given.min_rating:g})", low < given.min_rating
        ),
        Threshold(
            "validation.max_rating", high, f"the highest rating found (default {given.max_rating:g})", high > given.max_rating
        ),
    ]


def _core(figures: EventFigures, defaults: RetrainSettings) -> Threshold:
    """Propose the largest k-core that keeps enough events, and enough users to judge on."""
    users, items = figures.codes
    default, requests = defaults.evaluation.k_core, defaults.promotion.min_requests

    def kept(k: int) -> tuple[float, int]:
        mask = k_core(users, items, k)
        return float(mask.mean()) if len(mask) else 0.0, len(np.unique(users[mask]))

    measured = {k: kept(k) for k in range(default, 0, -1)}
    enough = [k for k, (share, judged) in measured.items() if share >= KEPT and judged >= requests]
    k = next(iter(enough or [k for k, (share, _) in measured.items() if share >= KEPT]), 1)
    share, judged = measured[k]
    why = f"users and items with fewer events are left out: {k} keeps {share:.0%} of the events and {judged:,} users (default {default})"
    if judged < requests:
        why += f"; the gate needs {requests} users to judge on (promotion.min_requests)"
    return Threshold("evaluation.k_core", k, why, k != default)


def _model(figures: EventFigures, defaults: RetrainSettings) -> list[Threshold]:
    """Propose settings of the challenger, of those that its kind has."""
    lengths = figures.events_of_users
    usual = int(np.quantile(lengths, 0.95)) if len(lengths) else 1
    length = int(min(200, max(10, 2 ** math.ceil(math.log2(max(usual, 1))))))
    found = {"max_length": (length, f"95 % of users have at most {usual:,} events")}
    if figures.rows < SMALL:
        found |= {
            "batch_tokens": (2048, "small data: smaller batches learn from more steps"),
            "patience": (10, "small data: epochs are short and vary more, so wait longer before the end"),
        }
    known = type(defaults.models.of(defaults.challenger)).model_fields
    return [Threshold(f"models.{defaults.challenger}.{name}", *given) for name, given in found.items() if name in known]


def _round(value: float) -> int:
    """Round down to two digits."""
    if value < 100:
        return int(value)
    scale = 10 ** (int(math.log10(value)) - 1)
    return int(value // scale * scale)
