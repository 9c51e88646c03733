"""Detect drift between new events and the data that the champion was trained on.

Each check combines a test and an effect (`tasks.monitoring.checks`). The test compares the effect with its null distribution for a
slice of this size and with such users. The effect shows whether the change is large enough to matter. Input that the tests cannot
judge (empty or constant columns, tiny slices, missing columns) is refused or reported here first. Evidently only draws the columns
(`tasks.monitoring.evidently_page`); it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from configs.errors import DataRefusedError
from configs.settings import DEFAULT_NOUNS, DriftSettings, NounSettings
from tasks.datasets import Quarantine
from tasks.monitoring.arrival_checks import Window, quarantine_check, silence_check, stream_checks, volume_check
from tasks.monitoring.checks import Check, decided
from tasks.monitoring.column_checks import AS_ARRIVED, LONG_TERM, Compared, View, column_checks, with_thresholds
from tasks.monitoring.live_quality import LiveQuality
from tasks.monitoring.reference import LEAST_USERS, Reference, reference_of
from tasks.monitoring.slices import arrival_window, newest_slice, window_of
from tasks.monitoring.traits import Descriptions

__all__ = [
    "Beside",
    "Compared",
    "DriftMeasure",
    "DriftResult",
    "Reference",
    "Window",
    "detect_drift",
    "newest_slice",
    "reference_of",
    "window_of",
]

Verdict = Literal["drifted", "stable", "too small to judge"]
NEEDED = ("user_id", "item_id", "timestamp", "rating_weekday", "rating_hour", "gap_s", "session_id")
IF_THERE = ("rating", "weight")  # needed if the reference has them


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
    arrived: int | None = None  # events that arrived since the last look, whatever their time; None: unknown
    late: int = 0  # of these, events that the slice does not have, because they are dated before it
    arrived_since: str = ""  # version of the last look
    anchor: str = ""  # former champion whose reference shows what changes slowly

    @property
    def drifted(self) -> list[str]:
        """Names of the checks that drifted."""
        return [check.name for check in self.checks if check.verdict == "drifted"]

    @property
    def causes(self) -> list[str]:
        """Names of the drifted checks that training again can help with. The others are alerts: a person must see to the feed."""
        return [check.name for check in self.checks if check.verdict == "drifted" and check.retrains]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Beside:
    """What is judged beside the newest slice, by the same rules, and what all rows are described by."""

    arrived: pd.DataFrame | None = None  # feature rows that arrived since the last look; None if the slice has all of them
    anchor: Reference | None = None  # of a former champion
    checks: Sequence[Check] = ()  # such as live quality
    seed: int = 0  # of all draws
    users: pd.DataFrame | None = None  # the table of users, if its attributes are compared
    nouns: NounSettings = DEFAULT_NOUNS


@dataclass(frozen=True, eq=False)
class DriftMeasure:
    """The verdict and the data behind it; `compared` is None if there was too little to judge."""

    result: DriftResult
    compared: Compared | None


def detect_drift(
    reference: Reference,
    current: pd.DataFrame,
    items: pd.DataFrame,
    settings: DriftSettings,
    *,
    window: Window | None = None,
    quarantine: Quarantine | None = None,
    beside: Beside = Beside(),
) -> DriftMeasure:
    """Compare `current` (the feature rows of the slice) with the reference.

    Args:
        window: Time that the slice covers. Without it, the way events arrive (volume, freshness, new users) is not judged.
        quarantine: Row counts of the slice. Without them, the share of quarantined rows is not judged.
        beside: What else is judged.

    Raises:
        DataRefusedError: A column is missing, empty or not finite.
    """
    needed = (*NEEDED, *(name for name in IF_THERE if name in reference.sample))
    _refuse_unusable(reference.sample, "reference", needed)
    _refuse_unusable(current, "newest slice", needed)
    reasons, nouns = _too_small(len(current), reference, settings), beside.nouns
    views = [] if reasons else [View(reference, current, window, nouns=nouns)]
    if beside.arrived is not None and not _too_small(len(beside.arrived), reference, settings):
        _refuse_unusable(beside.arrived, "events that arrived", needed)
        views.append(View(reference, beside.arrived, arrival_window(beside.arrived), AS_ARRIVED, nouns))
    if beside.anchor is not None and not reasons and not _too_small(len(current), beside.anchor, settings):
        views.append(View(beside.anchor, current, window, LONG_TERM, nouns))
    checks: list[Check] = []
    drawn: tuple[str, Compared] | None = None
    for view in views:
        found, compared = column_checks(view, Descriptions(items, beside.users), settings, beside.seed)
        checks += found
        drawn = drawn or (view.label, compared)
        if not view.label:
            checks += [_in_words(check, nouns) for check in stream_checks(reference, current, window, settings)]
    if reasons and reference.history is not None and window is not None:
        # A feed that stopped, or whose rows are all quarantined, brings few events or none.
        checks.append(volume_check(reference.history, current, window, settings))
        checks.append(silence_check(reference.history, current, window, settings))
    checks += [quarantine_check(reference.quarantine, quarantine, settings), *beside.checks]
    checks = decided(checks, settings.alpha)
    drifted = [check.sentence for check in checks if check.verdict == "drifted"]
    verdict: Verdict = "drifted" if drifted else "stable" if views else "too small to judge"
    times = current["timestamp"]
    result = DriftResult(
        verdict=verdict,
        reasons=drifted or ([] if views else reasons),
        rows=len(current),
        users=int(current["user_id"].nunique()),
        first=int(times.min()) if len(times) else None,
        last=int(times.max()) if len(times) else None,
        reference_rows=len(reference.sample),
        reference_users=int(reference.sample["user_id"].nunique()),
        unseen_user_share=float((~current["user_id"].isin(reference.user_events.index)).mean()) if len(current) else 0.0,
        alpha=settings.alpha,
        checks=checks,
    )
    return DriftMeasure(result, with_thresholds(drawn[1], checks, drawn[0], nouns) if drawn else None)


def _in_words(check: Check, nouns: NounSettings) -> Check:
    """Return a check of arrivals in the team's words, such as `new customers` for `new users`."""
    said = {name: getattr(check, name).replace("users", nouns.users) for name in ("name", "method", "detail")}
    return replace(check, **said)


def _too_small(rows: int, reference: Reference, settings: DriftSettings) -> list[str]:
    events, users = int(reference.user_events.sum()), int(reference.sample["user_id"].nunique())
    if min(rows, events) < settings.min_rows:
        return [f"The slice has {rows} rows and the reference {events}; drift.min_rows is {settings.min_rows}."]
    if users < LEAST_USERS:
        return [f"The reference has {users} users; at least {LEAST_USERS} are needed to estimate chance."]
    return []


def _refuse_unusable(frame: pd.DataFrame, name: str, needed: Sequence[str]) -> None:
    missing = [column for column in needed if column not in frame]
    if missing:
        raise DataRefusedError(
            f"The {name} lacks the column {missing[0]}, so drift cannot be measured. Build its features again."
        )
    for column in needed:
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataRefusedError(
                f"The column {column} of the {name} has {len(bad)} of {len(frame)} values that are not finite numbers, the first "
                f"in row {bad[0]} ({frame[column].iloc[bad[0]]!r}). Build its features again from validated interactions."
            )
