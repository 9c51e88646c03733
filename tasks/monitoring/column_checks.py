"""Check the columns of a slice against a reference: what a table of its rows shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from configs.settings import DEFAULT_NOUNS, DriftSettings, NounSettings
from models.columns import Columns
from tasks.monitoring.arrival_checks import Window, calendar_critical, calendar_p, seconds_of
from tasks.monitoring.checks import Check, Critical, critical_of, draws_for, not_judged
from tasks.monitoring.columns import (
    UNSEEN,
    ColumnDistance,
    GapLimits,
    Popularity,
    clipped,
    comparable,
    concentration,
    distances,
    own_events,
    with_few_categories,
)
from tasks.monitoring.reference import ROWS_OF_A_USER, Reference, capped_by_user, in_user_order, sampled
from tasks.monitoring.resampling import Groups, runs_of, session_windows
from tasks.monitoring.traits import REPEATED, Descriptions, Traits, is_attribute, traits_of

__all__ = ["AS_ARRIVED", "LONG_TERM", "Compared", "View", "column_checks", "shown_name", "with_thresholds"]

AS_ARRIVED, LONG_TERM = ", as arrived", ", over the long term"
SLICE_USERS = 500  # a larger slice is represented by a sample of this many users, for which random differences are already small
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, eq=False)
class View:
    """Rows that are compared with a reference, and in which way."""

    reference: Reference
    rows: pd.DataFrame  # feature rows
    window: Window | None  # the time that they cover
    label: str = ""  # added to the names of the checks: AS_ARRIVED or LONG_TERM
    nouns: NounSettings = DEFAULT_NOUNS


@dataclass(frozen=True, eq=False)
class Compared:
    """Both sides as they were compared, for drawing, with the distance at which each column alarms."""

    reference: pd.DataFrame
    current: pd.DataFrame
    thresholds: dict[str, float]
    traits: Traits


def shown_name(column: str, nouns: NounSettings) -> str:
    """Return the name of a column's check, in the team's words."""
    if is_attribute(column):
        side, name = column.split(": ", 1)
        return f"{name} of {nouns.items if side == 'item' else nouns.users}"
    names = {
        Columns.RATING: "rating",
        "log_gap": "seconds between events (log)",
        "popularity": f"popularity of {nouns.items} (rank)",
        "log_session": "events of a session (log)",
        Columns.WEIGHT: "weight of events",
        "genre": nouns.genre,
        "hour": "hour",
        "weekday": "weekday",
        REPEATED: f"same {nouns.item} as before",
        UNSEEN: f"unseen {nouns.items}",
    }
    return names[column]


def column_checks(view: View, described: Descriptions, settings: DriftSettings, seed: int) -> tuple[list[Check], Compared]:
    """Check each column of the rows that there is, and how concentrated they are on few items.

    Returns:
        The checks, undecided, and the compared columns, without thresholds (`with_thresholds`).
    """
    reference, traits = view.reference, traits_of(view.reference.sample, described)
    draws = draws_for(settings, traits.most_checks)
    rows = _slice_rows(view.rows, described, REPEATED in traits.columns, seed)
    popularity, limits = Popularity.of(reference.item_events), GapLimits.of(reference.sample)
    known = described.completed(reference.sample)
    sides = comparable(known, traits, popularity, own_events(known), limits), comparable(rows, traits, popularity, 0, limits)
    before, now = with_few_categories(*clipped(*sides, traits), traits)
    if view.label == LONG_TERM:
        before, now = (side[[name for name in traits.lasting if name in side]] for side in (before, now))
    users, moments = (reference.sample[name].to_numpy(np.int64) for name in ("user_id", "timestamp"))
    groups = Groups(
        users=runs_of(users),
        windows=session_windows(users, moments, seconds_of(view.rows, view.window) if view.window else None, seed),
        slice_windows=runs_of(rows["user_id"].to_numpy(np.int64)),
    )
    found = distances(before, now, traits, groups, resamples=draws, seed=seed)
    checks = [_column_check(column, view, settings) for column in found]
    if not view.label:
        judged = {column.column for column in found}
        lacking = [name for name in traits.columns if name not in judged]
        checks += [not_judged(shown_name(name, view.nouns), "", _without_values(name)) for name in lacking]
    if view.label != LONG_TERM:
        checks.append(_concentration_check(view, rows, settings, draws, seed))
    labelled = [replace(check, name=check.name + view.label, retrains=view.label != LONG_TERM) for check in checks]
    return labelled, Compared(before, now, {}, traits)


def with_thresholds(compared: Compared, checks: list[Check], label: str, nouns: NounSettings) -> Compared:
    """Return the columns with the distance above which each has drifted, from the decided checks."""
    decided = {check.name: check for check in checks}
    thresholds = {}
    for column in compared.traits.columns:
        check = decided.get(shown_name(column, nouns) + label)
        if check is not None and check.bound is not None:
            unbounded = float(np.finfo(np.float64).max)
            thresholds[column] = max(check.bound, unbounded if check.chance is None else check.chance)
    return replace(compared, thresholds=thresholds)


def _slice_rows(current: pd.DataFrame, described: Descriptions, repeats: bool, seed: int) -> pd.DataFrame:
    """The slice by user and time, with what describes it: at most ROWS_OF_A_USER rows per user and SLICE_USERS users."""
    ordered = in_user_order(current)
    users = ordered["user_id"].to_numpy(np.int64)
    rows = capped_by_user(users, SLICE_USERS * ROWS_OF_A_USER, SLICE_USERS, np.random.default_rng([seed, 1]))
    return sampled(ordered, rows, described, repeats)


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
        name=shown_name(column.column, view.nouns),
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


def _concentration_check(view: View, rows: pd.DataFrame, settings: DriftSettings, draws: int, seed: int) -> Check:
    one, several = view.nouns.item, view.nouns.items
    name, method = (
        f"concentration on {several}",
        f"ratio of the probability that two events are on the same {one}, or its inverse",
    )
    found = concentration(view.reference, rows, resamples=draws, seed=seed)
    if found is None:
        return not_judged(name, method, f"There are fewer than two users, or no two users have the same {one}.")
    before, now, null = found
    apart = abs(float(np.log(now / before)))
    return Check(
        name=name,
        method=method,
        reference=before,
        current=now,
        effect=float(np.exp(apart)),
        bound=settings.max_concentration_ratio,
        p_value=(int((np.abs(null) >= apart - 1e-12).sum()) + 1) / (len(null) + 1),
        critical=critical_of(np.exp(np.abs(null))),
        detail=f"as if all events were spread evenly over {1 / now:,.0f} {several}, compared with {1 / before:,.0f} before",
    )


def _shown(column: str, category: str) -> str:
    if column == "weekday" and category in map(str, range(7)):
        return WEEKDAYS[int(category)]
    return f"{category} h UTC" if column == "hour" else category


def _without_values(name: str) -> str:
    if name == "log_session":
        return "The champion's reference has no sessions, or the slice has none."
    return "One side has no values in this column."
