"""Check the columns of a slice against a reference: what a table of its rows shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from configs.settings import DriftSettings
from tasks.monitoring.arrival_checks import Window, calendar_critical, calendar_p, seconds_of
from tasks.monitoring.checks import Check, Critical, critical_of, draws_for, not_judged
from tasks.monitoring.columns import (
    CATEGORICAL,
    NUMERICAL,
    UNSEEN,
    ColumnDistance,
    GapLimits,
    Popularity,
    clipped,
    comparable,
    concentration,
    distances,
)
from tasks.monitoring.reference import ROWS_OF_A_USER, Reference, capped_by_user, in_user_order, sampled
from tasks.monitoring.resampling import Groups, runs_of, session_windows

__all__ = ["AS_ARRIVED", "LONG_TERM", "NAMES", "Compared", "View", "column_checks", "with_thresholds"]

NAMES = {
    "rating": "rating",
    "log_gap": "seconds between events (log)",
    "popularity": "popularity of films (rank)",
    "log_session": "events of a session (log)",
    "genre": "genre",
    "hour": "hour",
    "weekday": "weekday",
    UNSEEN: "unseen films",
}
CONCENTRATION = "concentration on films"
CONCENTRATED = "ratio of the probability that two events share a film, or its inverse"
AS_ARRIVED, LONG_TERM = ", as arrived", ", over the long term"
SLICE_USERS = 500  # a larger slice is represented by a sample of this many users, for which random differences are already small
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LASTING = (*(name for name in (*NUMERICAL, *CATEGORICAL) if name != "popularity"),)
"""Columns that do not change by themselves as new films appear. Over the long term, only these are compared."""


@dataclass(frozen=True, eq=False)
class View:
    """Rows that are compared with a reference, and in which way."""

    reference: Reference
    rows: pd.DataFrame  # feature rows
    window: Window | None  # the time that they cover
    label: str = ""  # added to the names of the checks: AS_ARRIVED or LONG_TERM


@dataclass(frozen=True, eq=False)
class Compared:
    """Both sides as they were compared, for drawing, with the distance at which each column alarms."""

    reference: pd.DataFrame
    current: pd.DataFrame
    thresholds: dict[str, float]


def column_checks(view: View, items: pd.DataFrame, settings: DriftSettings, seed: int) -> tuple[list[Check], Compared]:
    """Check each column of the rows, and how concentrated they are on few films.

    Returns:
        The checks, undecided, and the compared columns, without thresholds (`with_thresholds`).
    """
    reference, draws = view.reference, draws_for(settings)
    rows = _slice_rows(view.rows, items, seed)
    popularity, limits = Popularity.of(reference.item_events), GapLimits.of(reference.sample)
    known = _described(reference.sample, items)
    before, now = clipped(comparable(known, popularity, 1, limits), comparable(rows, popularity, 0, limits))
    if view.label == LONG_TERM:
        before, now = (side[[name for name in LASTING if name in side]] for side in (before, now))
    users, moments = (reference.sample[name].to_numpy(np.int64) for name in ("user_id", "timestamp"))
    groups = Groups(
        users=runs_of(users),
        windows=session_windows(users, moments, seconds_of(view.rows, view.window) if view.window else None, seed),
        slice_windows=runs_of(rows["user_id"].to_numpy(np.int64)),
    )
    found = distances(before, now, groups, resamples=draws, seed=seed)
    checks = [_column_check(column, view, settings) for column in found]
    if not view.label:
        judged = {column.column for column in found}
        checks += [not_judged(NAMES[name], "", _without_values(name)) for name in NUMERICAL if name not in judged]
    if view.label != LONG_TERM:
        checks.append(_concentration_check(reference, rows, settings, draws, seed))
    labelled = [replace(check, name=check.name + view.label, retrains=view.label != LONG_TERM) for check in checks]
    return labelled, Compared(before, now, {})


def with_thresholds(compared: Compared, checks: list[Check], label: str) -> Compared:
    """Return the columns with the distance above which each has drifted, from the decided checks."""
    decided = {check.name: check for check in checks}
    thresholds = {}
    for column in (*NUMERICAL, *CATEGORICAL):
        check = decided.get(NAMES[column] + label)
        if check is not None and check.bound is not None:
            unbounded = float(np.finfo(np.float64).max)
            thresholds[column] = max(check.bound, unbounded if check.chance is None else check.chance)
    return replace(compared, thresholds=thresholds)


def _slice_rows(current: pd.DataFrame, items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The slice by user and time, with genres and sessions: at most ROWS_OF_A_USER rows per user and SLICE_USERS users."""
    ordered = in_user_order(current)
    users = ordered["user_id"].to_numpy(np.int64)
    rows = capped_by_user(users, SLICE_USERS * ROWS_OF_A_USER, SLICE_USERS, np.random.default_rng([seed, 1]))
    return sampled(ordered, rows, items)


def _described(sample: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Return the reference's rows with the genres of films that had no description yet when the reference was stored.

    Otherwise the first descriptions to arrive would look like a change of taste.
    """
    genres = sample["item_id"].map(items.set_index("item_id")["genres"]).astype("string").fillna("")
    return sample.assign(genres=sample["genres"].where(sample["genres"] != "", genres))


def _column_check(column: ColumnDistance, view: View, settings: DriftSettings) -> Check:
    p_value = (int((column.null >= column.distance - 1e-12).sum()) + 1) / (len(column.null) + 1)
    critical = critical_of(column.null)
    if column.column in ("hour", "weekday"):  # both the draws and the past's own windows must show it
        history = view.reference.history
        p_value = max(p_value, calendar_p(history, view.window, view.rows, column.column, column.distance))
        critical = _greater(critical, calendar_critical(history, view.window, view.rows, column.column))
    if column.category is not None:
        detail = f"{_shown(column.column, column.category)}: {column.reference:.1%} to {column.current:.1%}"
    elif column.column == UNSEEN:
        detail = f"{column.current:.1%} of the events, {column.reference:.1%} expected"
    else:
        detail = f"mean {column.reference:.3g} to {column.current:.3g}"
    return Check(
        name=NAMES[column.column],
        method=column.method,
        reference=column.reference,
        current=column.current,
        effect=column.distance,
        bound=settings.max_unseen_item_share if column.column == UNSEEN else settings.max_column_distance,
        p_value=p_value,
        critical=critical,
        detail=detail,
    )


def _greater(one: Critical, other: Critical) -> Critical:
    def critical(level: float) -> float | None:
        values = one(level), other(level)
        return None if values[0] is None or values[1] is None else max(values[0], values[1])

    return critical


def _concentration_check(reference: Reference, rows: pd.DataFrame, settings: DriftSettings, draws: int, seed: int) -> Check:
    found = concentration(reference, rows, resamples=draws, seed=seed)
    if found is None:
        return not_judged(CONCENTRATION, CONCENTRATED, "There are fewer than two users, or no two users share a film.")
    before, now, null = found
    apart = abs(float(np.log(now / before)))
    return Check(
        name=CONCENTRATION,
        method=CONCENTRATED,
        reference=before,
        current=now,
        effect=float(np.exp(apart)),
        bound=settings.max_concentration_ratio,
        p_value=(int((np.abs(null) >= apart - 1e-12).sum()) + 1) / (len(null) + 1),
        critical=critical_of(np.exp(np.abs(null))),
        detail=f"as if all events were spread evenly over {1 / now:,.0f} films, compared with {1 / before:,.0f} before",
    )


def _shown(column: str, category: str) -> str:
    if column == "weekday" and category in map(str, range(7)):
        return WEEKDAYS[int(category)]
    return f"{category} h UTC" if column == "hour" else category


def _without_values(name: str) -> str:
    if name == "log_session":
        return "The champion's reference has no sessions, or the slice has none."
    return "One side has no values in this column."
