"""Check how events arrive, which a table of rows does not show: rate, silence, new users, and quarantined rows.

Each check is judged against the reference's own past (`History`). Its consecutive windows with as many events vary with day and
night, weekends and heavy users, and the slice is treated as one more window (a prediction interval, Student's t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.settings import DriftSettings
from tasks.datasets import Quarantine
from tasks.monitoring.checks import Check, Critical, not_judged
from tasks.monitoring.reference import NEVER, History, Reference, SpanRow, WindowRow, newcomer_share, without_strays

__all__ = [
    "Window",
    "calendar_critical",
    "calendar_p",
    "quarantine_check",
    "seconds_of",
    "silence_check",
    "stream_checks",
    "volume_check",
]

DAY_S = 86_400
ALIKE = 0.1  # share by which a slice may differ in length from the past's windows that its hours and weekdays are compared with
FEWER = 4  # such a slice has at least this part of their events; fewer events are more uneven
RATE, SILENCE, NEWCOMERS, SET_ASIDE = "volume", "freshness", "new users", "quarantine"
METHODS = {
    RATE: "ratio to the usual rate, or its inverse",
    SILENCE: "ratio of the longest silence to the longest before",
    NEWCOMERS: "change in the share of events by new users",
    SET_ASIDE: "change in the share of quarantined rows",
}
NO_WINDOW = "The slice is not a window of time, so it is unknown how its events arrived."
NO_HISTORY = (
    "The champion's reference has no history, because an older version published it. Run `recsys retrain` to publish one with a "
    "history."
)


@dataclass(frozen=True, eq=False)
class Window:
    """The time that a slice covers, and the users known at its start."""

    start: int  # UTC seconds of the last event before the slice
    now: int | None  # UTC seconds of its end; None: the time of its newest event
    known_users: npt.NDArray[np.int64]


def stream_checks(reference: Reference, current: pd.DataFrame, window: Window | None, settings: DriftSettings) -> list[Check]:
    """Check volume, freshness and new users of the slice's rows."""
    history = reference.history
    if history is None or window is None:
        reason = NO_HISTORY if history is None else NO_WINDOW
        return [not_judged(name, METHODS[name], reason) for name in (RATE, SILENCE, NEWCOMERS)]
    times, _ = _times(current, window)
    row = _row_for(history, len(times))
    newcomers = _newcomer_share(history, row, current, window) if row else 0.0
    return [
        volume_check(history, current, window, settings),
        _newcomers(row, newcomers, settings)
        if row
        else not_judged(NEWCOMERS, METHODS[NEWCOMERS], _too_short(history, len(times))),
        silence_check(history, current, window, settings),
    ]


def volume_check(history: History, current: pd.DataFrame, window: Window, settings: DriftSettings) -> Check:
    """Compare the slice's rate with that of the past's windows of the same length. The slice may have few events, or none.

    A history from before such windows were stored is compared by windows with as many events.
    """
    times, end = _times(current, window)
    seconds = max(end - window.start, 1)
    fitting = [span for span in history.spans if span.seconds <= seconds]
    if fitting:
        return _volume_of_span(fitting[-1], len(times), seconds, settings)
    row = _row_for(history, len(times)) if not history.spans else None
    return (
        _volume(row, len(times), seconds, settings) if row else not_judged(RATE, METHODS[RATE], _too_short(history, len(times)))
    )


def _volume_of_span(span: SpanRow, events: int, seconds: int, settings: DriftSettings) -> Check:
    usual, found = span.events / span.seconds * DAY_S, max(events, 0.5) / seconds * DAY_S
    apart = math.sqrt(events * span.seconds / seconds + 0.375) - span.root

    def critical(level: float) -> float | None:
        edge = span.root + math.copysign(_prediction_width(level, span.root_sd, span.windows), apart)
        reached = edge**2 - 0.375
        if edge <= 0 or reached <= 0 or span.events <= 0:
            return None
        return max(reached / span.events, span.events / reached)

    return Check(
        name=RATE,
        method=METHODS[RATE],
        reference=usual,
        current=events / seconds * DAY_S,
        effect=max(found / usual, usual / found) if usual > 0 else found,
        bound=settings.max_volume_ratio,
        p_value=_prediction_p(apart, span.root_sd, span.windows),
        critical=critical,
        retrains=False,
        detail=f"{events / seconds * DAY_S:,.0f} events per day over {seconds / DAY_S:,.1f} days, compared with {usual:,.0f} before",
    )


def seconds_of(current: pd.DataFrame, window: Window) -> int:
    """Return the duration of the slice, at least one second."""
    return max(_times(current, window)[1] - window.start, 1)


def _times(current: pd.DataFrame, window: Window) -> tuple[npt.NDArray[np.int64], int]:
    """Return the sorted times of the slice, and its end. An event from the future neither creates a silence nor hides one."""
    times = np.sort(current["timestamp"].to_numpy(np.int64))
    if window.now is not None:
        times = times[times <= window.now]
    times = times[: without_strays(len(times)).stop]
    newest = int(times[-1]) if len(times) else window.start
    return times, max(newest, window.now) if window.now is not None else newest


def calendar_p(history: History | None, window: Window | None, rows: pd.DataFrame, column: str, distance: float) -> float:
    """Return the p-value of a slice's distance in hours or weekdays, compared with the windows of the past.

    A window of an afternoon covers few hours, and a window of a weekend has no Monday. Neither is drift. The result is 0 if the
    slice is not a window or its past is unknown: then only the draws of users decide.

    Args:
        rows: The slice.
        column: "hour" or "weekday".
        distance: Jensen-Shannon distance of that column.
    """
    past = _past_calendar(history, window, rows, column)
    if past is None:
        return 0.0
    apart = past.scaled(distance) - past.mean
    p_value = _prediction_p(apart, past.sd, past.windows)
    return p_value / 2 if apart > 0 else 1 - p_value / 2


def calendar_critical(history: History | None, window: Window | None, rows: pd.DataFrame, column: str) -> Critical:
    """Return the critical values of the distance in hours or weekdays that belong to `calendar_p`."""
    past = _past_calendar(history, window, rows, column)
    if past is None:
        return lambda level: 0.0

    def critical(level: float) -> float:
        edge = past.mean + _prediction_width(2 * level, past.sd, past.windows)
        return math.exp(edge) if past.of_logarithms else edge

    return critical


@dataclass(frozen=True)
class _PastCalendar:
    """Mean and standard deviation of the distance, or of its logarithm, over `windows` windows of the past."""

    windows: int
    mean: float
    sd: float
    of_logarithms: bool

    def scaled(self, distance: float) -> float:
        return math.log(max(distance, 1e-6)) if self.of_logarithms else distance


def _past_calendar(history: History | None, window: Window | None, rows: pd.DataFrame, column: str) -> _PastCalendar | None:
    """Return the distances of the past's windows that are as long as the slice, or else of those with as many events.

    Windows with as many events as a week start on any weekday and rarely last a week, so they are far more uneven than weeks are.
    """
    if history is None or window is None:
        return None
    hours, seconds = column == "hour", seconds_of(rows, window)
    for span in history.spans:
        distance = span.hour_distance if hours else span.weekday_distance
        alike = abs(seconds / span.seconds - 1) <= ALIKE and len(rows) >= span.events / FEWER
        if distance is not None and alike:
            return _PastCalendar(span.windows, distance, span.hour_distance_sd if hours else span.weekday_distance_sd, False)
    row = _row_for(history, len(rows))
    if row is None:
        return None
    if hours:
        return _PastCalendar(row.windows, row.log_hour_distance, row.log_hour_distance_sd, True)
    return _PastCalendar(row.windows, row.log_weekday_distance, row.log_weekday_distance_sd, True)


def quarantine_check(before: Quarantine | None, now: Quarantine | None, settings: DriftSettings) -> Check:
    """Compare the share of quarantined rows with that of the reference, by Fisher's exact test."""
    from scipy.stats import fisher_exact

    if before is None or now is None or not before.rows or not now.rows:
        whose = "reference" if before is None or not before.rows else "slice"
        return not_judged(
            SET_ASIDE, METHODS[SET_ASIDE], f"It is unknown how many rows of the {whose} came in and were quarantined."
        )

    def p_value(quarantined: int) -> float:
        table = [[quarantined, now.rows - quarantined], [before.quarantined, before.rows - before.quarantined]]
        return float(fisher_exact(table, alternative="greater").pvalue)

    def critical(level: float) -> float | None:
        low, high = 0, now.rows + 1  # the least number of quarantined rows that is significant; rows + 1: none is
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if middle > now.rows or p_value(middle) <= level else (middle + 1, high)
        return None if low > now.rows else (low - 1) / now.rows - shares[0]

    shares = [side.quarantined / side.rows for side in (before, now)]
    return Check(
        name=SET_ASIDE,
        method=METHODS[SET_ASIDE],
        reference=shares[0],
        current=shares[1],
        effect=shares[1] - shares[0],
        bound=settings.max_quarantined_share,
        p_value=p_value(now.quarantined),
        critical=critical,
        retrains=False,
        detail=f"{now.quarantined:,} of {now.rows:,} rows, {shares[1]:.1%}, compared with {shares[0]:.1%} before",
    )


def _row_for(history: History, events: int) -> WindowRow | None:
    """Return the past in windows of as many events, or fewer. Smaller windows vary at least as much."""
    fitting = [row for row in history.windows if row.events <= events]
    return fitting[-1] if fitting else None


def _too_short(history: History, events: int) -> str:
    least = history.windows[0].events if history.windows else "none"
    return (
        f"The reference's history of {history.events:,} events has no windows to compare {events:,} events with "
        f"(smallest window: {least})."
    )


def _volume(row: WindowRow, events: int, seconds: int, settings: DriftSettings) -> Check:
    rate = math.log(events / seconds)
    apart = rate - row.log_rate
    usual, found = (math.exp(value) * DAY_S for value in (row.log_rate, rate))
    return Check(
        name=RATE,
        method=METHODS[RATE],
        reference=usual,
        current=found,
        effect=math.exp(abs(apart)),
        bound=settings.max_volume_ratio,
        p_value=_prediction_p(apart, row.log_rate_sd, row.windows),
        critical=lambda level: math.exp(_prediction_width(level, row.log_rate_sd, row.windows)),
        retrains=False,
        detail=f"{found:,.0f} events per day over {seconds / DAY_S:,.1f} days, compared with {usual:,.0f} before",
    )


def _newcomer_share(history: History, row: WindowRow, current: pd.DataFrame, window: Window) -> float:
    """Return the share of events by new users, as a mean over windows as long as those of the past.

    The share depends on the length of a window, because its users become known in the course of it.
    """
    if history.memory_s is None:
        return float((~np.isin(current["user_id"].to_numpy(np.int64), window.known_users)).mean())
    ordered = current.sort_values("timestamp", kind="stable")
    users, times, gaps = (ordered[name].to_numpy(np.int64) for name in ("user_id", "timestamp", "gap_s"))
    last_seen = np.where(gaps < 0, NEVER, times - gaps)
    ends = np.arange(row.events, len(users) + 1, row.events)
    begins = [window.start, *(int(times[end - 1]) for end in ends[:-1])]
    return float(
        np.mean(
            [
                newcomer_share(users[end - row.events : end], last_seen[end - row.events : end], begin, history.memory_s)
                for end, begin in zip(ends, begins, strict=True)
            ]
        )
    )


def _newcomers(row: WindowRow, share: float, settings: DriftSettings) -> Check:
    expected = math.sin(row.new_users) ** 2
    apart = math.asin(math.sqrt(share)) - row.new_users
    return Check(
        name=NEWCOMERS,
        method=METHODS[NEWCOMERS],
        reference=expected,
        current=share,
        effect=abs(share - expected),
        bound=settings.max_unseen_user_share,
        p_value=_prediction_p(apart, row.new_users_sd, (row.new_users_windows or row.windows)),
        critical=lambda level: _newcomers_critical(row, apart, level),
        detail=f"{share:.1%} of the events are by new users, compared with {expected:.1%} before",
    )


def _newcomers_critical(row: WindowRow, apart: float, level: float) -> float | None:
    """Return the critical change of the share, in the direction in which it changed; None if no share is so far away."""
    width = _prediction_width(level, row.new_users_sd, (row.new_users_windows or row.windows))
    edge = row.new_users + math.copysign(width, apart)
    return abs(math.sin(edge) ** 2 - math.sin(row.new_users) ** 2) if 0 <= edge <= math.pi / 2 else None


def silence_check(history: History, current: pd.DataFrame, window: Window, settings: DriftSettings) -> Check:
    """Check how likely the longest silence is in a window of this length. The slice may have no events at all.

    The p-value follows from the number of such silences to expect. Beyond the shortest silence that the history keeps, the tail
    of the past's silences is assumed to be exponential.
    """
    times, end = _times(current, window)
    marks = np.concatenate([[window.start], times, [end]])
    longest, age = int(np.diff(np.sort(marks)).max()), end - int(times[-1] if len(times) else window.start)
    start = window.start
    if not history.silences or history.silences[0] < 1 or history.last <= history.first:
        return not_judged(SILENCE, METHODS[SILENCE], "The reference's history has no silences to compare with.", float(longest))
    kept = np.array(history.silences, dtype=np.float64)
    tail, excess = kept[-1], max(float((kept - kept[-1]).mean()), 1.0)
    lasted = max(end - start, 1) / (history.last - history.first)
    expected = lasted * len(kept) * math.exp(-max(longest - tail, 0.0) / excess)
    return Check(
        name=SILENCE,
        method=METHODS[SILENCE],
        reference=float(kept[0]),
        current=float(longest),
        effect=float(longest / kept[0]),
        bound=settings.max_silence_ratio,
        p_value=-math.expm1(-expected) if longest > tail else 1.0,
        critical=lambda level: max(tail + excess * math.log(lasted * len(kept) / -math.log1p(-level)), tail) / kept[0],
        retrains=False,
        detail=f"{longest / 3600:.1f} hours without an event, compared with at most {kept[0] / 3600:.1f} before; "
        f"the newest event is {age / 3600:.1f} hours old",
    )


def _prediction_p(apart: float, spread: float, windows: int) -> float:
    """Return the two-sided p-value of one more window that is `apart` from the mean of `windows` windows."""
    from scipy.stats import t

    return float(2 * t.sf(abs(apart) / _prediction_sd(spread, windows), windows - 1))


def _prediction_width(level: float, spread: float, windows: int) -> float:
    """Return how far one more window is from the mean if its two-sided p-value is `level`."""
    from scipy.stats import t

    return float(t.isf(min(level, 1.0) / 2, windows - 1)) * _prediction_sd(spread, windows)


def _prediction_sd(spread: float, windows: int) -> float:
    return max(spread, 1e-6) * math.sqrt(1 + 1 / windows)
