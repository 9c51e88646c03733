"""Detect drift between the newest slice of events and the data that the champion was trained on.

Each check combines a test and an effect (`tasks.monitoring.checks`). The test compares the effect with its null
distribution for a slice of this size and with such users. The effect shows whether the change is large enough to matter. Input that the tests cannot judge (empty or
constant columns, tiny slices, missing columns) is refused or reported here first. Evidently only draws the columns
(`tasks.monitoring.evidently_page`); it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import DataRefusedError
from configs.settings import DriftSettings
from tasks.datasets import Quarantine
from tasks.monitoring.arrival_checks import Window, calendar_p, quarantine_check, seconds_of, silence_check, stream_checks
from tasks.monitoring.checks import Check, decided, not_judged
from tasks.monitoring.columns import NUMERICAL, UNSEEN, ColumnDistance, Popularity, clipped, comparable, concentration, distances
from tasks.monitoring.live_quality import LiveQuality
from tasks.monitoring.reference import ROWS_OF_A_USER, Reference, capped_by_user, in_user_order, reference_of, sampled
from tasks.monitoring.resampling import Groups, runs_of, session_windows

__all__ = [
    "Compared",
    "DriftMeasure",
    "DriftResult",
    "Reference",
    "Window",
    "detect_drift",
    "newest_slice",
    "reference_of",
    "window_of",
    "with_checks",
]

Verdict = Literal["drifted", "stable", "too small to judge"]
NEEDED = ("user_id", "item_id", "rating", "timestamp", "rating_weekday", "rating_hour", "gap_s", "session_id")
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
SLICE_USERS = 500  # a larger slice is represented by a sample of this many users, for which random differences are already small
LEAST_USERS = 20  # in the reference; fewer are not enough for a null distribution
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class DriftResult:
    """The verdict and all figures; JSON-serialisable."""

    verdict: Verdict
    reasons: list[str]  # one sentence per drifted check, or why the slice could not be judged
    rows: int  # in the slice
    users: int
    first: int | None  # UTC seconds of the slice's first event
    last: int | None
    reference_rows: int
    reference_users: int
    unseen_user_share: float  # share of the slice's events by users who are not in the reference
    alpha: float
    checks: list[Check]
    model_name: str = ""
    dataset: str = ""  # name/version
    champion: str | None = None  # whose reference was used; None: the events before the slice
    live: LiveQuality | None = None

    @property
    def drifted(self) -> list[str]:
        """Names of the checks that drifted."""
        return [check.name for check in self.checks if check.verdict == "drifted"]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Compared:
    """Both sides as they were compared, for drawing, with the distance at which each column alarms."""

    reference: pd.DataFrame
    current: pd.DataFrame
    thresholds: dict[str, float]


@dataclass(frozen=True, eq=False)
class DriftMeasure:
    """The verdict and the data behind it; `compared` is None if the slice is too small to judge."""

    result: DriftResult
    compared: Compared | None


def newest_slice(
    features: pd.DataFrame, settings: DriftSettings, after: int | None = None, since: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the features by time into the older events and the newest slice.

    Events of the same second stay together. By default the slice is drift.slice_share of the events.

    Args:
        after: UTC seconds. The slice contains only events later than this.
        since: UTC seconds. The slice is all events from this time on; `after` and drift.slice_share are then ignored.

    Returns:
        The older events and the newest slice.

    Raises:
        DataRefusedError: There are no events.
    """
    if features.empty:
        raise DataRefusedError("The dataset version has no events, so it has no newest slice. Ingest events first.")
    times = features["timestamp"].to_numpy(np.int64)
    cut = since if since is not None else int(np.quantile(times, 1 - settings.slice_share, method="higher"))
    if since is None and after is not None:
        cut = max(cut, after + 1)
    newest = times >= cut
    return features[~newest], features[newest]


def window_of(older: pd.DataFrame, newest: pd.DataFrame, now: int | None = None) -> Window | None:
    """Return the time that `newest` covers after `older`, or None if `older` is empty."""
    if older.empty:
        return None
    return Window(int(older["timestamp"].max()), now, older["user_id"].unique().astype(np.int64))


def detect_drift(
    reference: Reference,
    current: pd.DataFrame,
    items: pd.DataFrame,
    settings: DriftSettings,
    *,
    window: Window | None = None,
    quarantine: Quarantine | None = None,
    seed: int = 0,
) -> DriftMeasure:
    """Compare `current` (the feature rows of the slice) with the reference.

    Args:
        window: Time that the slice covers. Without it, the way events arrive (volume, freshness, new users) is not judged.
        quarantine: Row counts of the slice. Without them, the share of quarantined rows is not judged.

    Raises:
        DataRefusedError: A column is missing, empty or not finite.
    """
    _refuse_unusable(reference.sample, "reference")
    _refuse_unusable(current, "newest slice")
    sample_users = int(reference.sample["user_id"].nunique())
    checks: list[Check] = []
    compared, reasons = None, _too_small(len(current), len(reference.sample), sample_users, settings)
    if reasons:  # a feed that stopped, or whose rows are all quarantined, brings few events or none
        if reference.history is not None and window is not None:
            checks = [silence_check(reference.history, current, window, settings)]
        checks.append(quarantine_check(reference.quarantine, quarantine, settings))
    if not reasons:
        rows = _slice_rows(current, items, seed)
        popularity = Popularity.of(reference.item_events)
        before, now = clipped(comparable(reference.sample, popularity, 1), comparable(rows, popularity, 0))
        users, moments = (reference.sample[name].to_numpy(np.int64) for name in ("user_id", "timestamp"))
        groups = Groups(
            users=runs_of(users),
            windows=session_windows(users, moments, seconds_of(current, window) if window else None, seed),
            slice_windows=runs_of(rows["user_id"].to_numpy(np.int64)),
        )
        found = distances(before, now, groups, resamples=settings.resamples, seed=seed)
        tests = len(found) + 6  # concentration, stream, quarantine and live quality
        checks = [_column_check(column, reference, window, len(current), settings, tests) for column in found]
        checks += [
            not_judged(NAMES[name], "", _without_values(name)) for name in NUMERICAL if name not in {c.column for c in found}
        ]
        checks.append(_concentration_check(reference, rows, settings, tests, seed))
        checks += [
            *stream_checks(reference, current, window, settings),
            quarantine_check(reference.quarantine, quarantine, settings),
        ]
        compared = Compared(
            before, now, {column.column: _threshold(column, settings, tests) for column in found if column.column != UNSEEN}
        )
    times = current["timestamp"]
    result = DriftResult(
        verdict="too small to judge" if reasons else "stable",
        reasons=reasons,
        rows=len(current),
        users=int(current["user_id"].nunique()),
        first=int(times.min()) if len(times) else None,
        last=int(times.max()) if len(times) else None,
        reference_rows=len(reference.sample),
        reference_users=sample_users,
        unseen_user_share=float((~current["user_id"].isin(reference.user_events.index)).mean()) if len(current) else 0.0,
        alpha=settings.alpha,
        checks=[],
    )
    return DriftMeasure(with_checks(result, checks), compared)


def with_checks(result: DriftResult, checks: Sequence[Check]) -> DriftResult:
    """Return the result with `checks` added, and the verdict over all checks. Each added check makes the others stricter."""
    judged = decided([*result.checks, *checks], result.alpha)
    reasons = [check.sentence for check in judged if check.verdict == "drifted"]
    if result.verdict == "too small to judge" and not reasons:
        return replace(result, checks=judged)
    return replace(result, verdict="drifted" if reasons else "stable", reasons=reasons, checks=judged)


def _too_small(rows: int, reference_rows: int, reference_users: int, settings: DriftSettings) -> list[str]:
    if min(rows, reference_rows) < settings.min_rows:
        return [f"The slice has {rows} rows and the reference {reference_rows}; drift.min_rows is {settings.min_rows}."]
    if reference_users < LEAST_USERS:
        return [f"The reference has {reference_users} users; at least {LEAST_USERS} are needed to estimate chance."]
    return []


def _slice_rows(current: pd.DataFrame, items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The slice by user and time, with genres and sessions: at most ROWS_OF_A_USER rows per user and SLICE_USERS users."""
    ordered = in_user_order(current)
    users = ordered["user_id"].to_numpy(np.int64)
    rows = capped_by_user(users, SLICE_USERS * ROWS_OF_A_USER, SLICE_USERS, np.random.default_rng([seed, 1]))
    return sampled(ordered, rows, items)


def _column_check(
    column: ColumnDistance, reference: Reference, window: Window | None, rows: int, settings: DriftSettings, tests: int
) -> Check:
    p_value = (int((column.null >= column.distance - 1e-12).sum()) + 1) / (len(column.null) + 1)
    if column.column in ("hour", "weekday"):
        p_value = max(p_value, calendar_p(reference.history, window, rows, column.column, column.distance))
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
        chance=_critical_value(column.null, settings, tests),
        p_value=p_value,
        detail=detail,
    )


def _concentration_check(reference: Reference, rows: pd.DataFrame, settings: DriftSettings, tests: int, seed: int) -> Check:
    found = concentration(reference, rows, resamples=settings.resamples, seed=seed)
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
        chance=_critical_value(np.exp(np.abs(null)), settings, tests),
        p_value=(int((np.abs(null) >= apart - 1e-12).sum()) + 1) / (len(null) + 1),
        detail=f"as if all events were spread evenly over {1 / now:,.0f} films, compared with {1 / before:,.0f} before",
    )


def _shown(column: str, category: str) -> str:
    if column == "weekday" and category in map(str, range(7)):
        return WEEKDAYS[int(category)]
    return f"{category} h UTC" if column == "hour" else category


def _critical_value(null: npt.NDArray[np.float64], settings: DriftSettings, tests: int) -> float | None:
    """The effect that is significant at the level of Holm's first step, or None if it is unbounded (a draw without any value)."""
    value = float(np.quantile(null, 1 - settings.alpha / tests, method="higher"))
    return value if np.isfinite(value) else None


def _threshold(column: ColumnDistance, settings: DriftSettings, tests: int) -> float:
    critical = _critical_value(column.null, settings, tests)
    return max(settings.max_column_distance, critical) if critical is not None else float(np.finfo(np.float64).max)


def _without_values(name: str) -> str:
    if name == "log_session":
        return "The champion's reference has no sessions, or the slice has none."
    return "One side has no values in this column."


def _refuse_unusable(frame: pd.DataFrame, name: str) -> None:
    missing = [column for column in NEEDED if column not in frame]
    if missing:
        raise DataRefusedError(
            f"The {name} lacks the column {missing[0]}, so drift cannot be measured. Build its features again."
        )
    for column in NEEDED:
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataRefusedError(
                f"The column {column} of the {name} has {len(bad)} of {len(frame)} values that are not finite numbers, the first "
                f"in row {bad[0]} ({frame[column].iloc[bad[0]]!r}). Build its features again from validated interactions."
            )
