"""Joins outcomes with exposures, for the result and for the check of the log.

Both use the same windows: what is credited must be findable in a complete log, and what is never credited is not looked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.serving import AnalysisSettings, Experiment
from serving.experiments.assignment import place_of

__all__ = ["credited_outcomes", "joined_outcomes", "of_kinds"]


def of_kinds(outcomes: pd.DataFrame, analysis: AnalysisSettings) -> pd.DataFrame:
    """Return the outcomes of the kinds that count. One without a kind counts always."""
    return outcomes[outcomes["kind"].isin(["", *analysis.kinds])] if analysis.kinds else outcomes


def credited_outcomes(
    counted: pd.DataFrame, now: pd.DataFrame, outcomes: pd.DataFrame, analysis: AnalysisSettings
) -> pd.DataFrame:
    """Return the outcomes that count, with the seconds since the user's first exposure in the column `since`.

    Args:
        counted: Users who count, with the time of their first exposure in the column `first`.
        now: Exposures of the current revision.
        outcomes: Outcomes as returned by `read_outcomes`.
        analysis: The horizon, and with the attribution `shown` the window in which the item must have been shown before.
    """
    found = _within_horizon(outcomes, counted["first"], analysis)
    if analysis.attribution == "any":
        return found
    return found[found["time"] - _last_shown(found, now) <= analysis.window_s]


def joined_outcomes(
    experiment: Experiment, now: pd.DataFrame, logged: pd.DataFrame, outcomes: pd.DataFrame
) -> tuple[int, int, str]:
    """Return how many outcomes match an exposure in the log, out of how many, and how they were matched.

    Outcomes that name a request are matched by it. If none does, they are matched by user and time: an outcome with an exposure
    of the user within the window before, or on an item that the user was shown at any time before, is in the log. With the
    attribution `any`, the window is the horizon.

    Outcomes that no complete log could explain are left out: those of users outside the experiment's slice, those before a
    user's first exposure or after the horizon, those after the last exposure, and those that may follow a list that was shown
    before the log began.

    Args:
        experiment: The experiment as configured.
        now: Exposures of the current revision.
        logged: All exposures to users, of any experiment and revision and of none.
        outcomes: Outcomes as returned by `read_outcomes`.
    """
    analysis = experiment.analysis
    if now.empty:
        return 0, 0, ""
    begin = now["time"].min() + min(analysis.window_s, analysis.horizon_s)
    own = outcomes[outcomes["time"].between(begin, now["time"].max())]
    own = own[_inside(experiment, own["user"])]
    named = own[own["request"] != ""]
    if len(named):
        pairs = set(zip(logged["request"], logged["user"], strict=True))
        found = sum(pair in pairs for pair in zip(named["request"], named["user"], strict=True))
        return found, len(named), "name a request of the same user in the log"
    firsts = now.groupby("user")["time"].min()
    strangers = own[~own["user"].isin(logged["user"])]
    known = _within_horizon(own, firsts, analysis)
    found, of = len(known), len(known) + len(strangers)
    if analysis.attribution == "any":
        return found, of, f"of the experiment's users follow an exposure within {analysis.horizon_s:,} s"
    recent = known["time"] - _last_before(known, logged, ["user"]) <= analysis.window_s
    on_list = _last_shown(known, now).notna()
    return int((recent | on_list).sum()), of, f"of the experiment's users follow an exposure within {analysis.window_s:,} s"


def _within_horizon(outcomes: pd.DataFrame, firsts: pd.Series[int], analysis: AnalysisSettings) -> pd.DataFrame:
    found = outcomes.assign(since=outcomes["time"] - outcomes["user"].map(firsts))
    found = found[(found["since"] >= 0) & (found["since"] < analysis.horizon_s)]
    return found.sort_values("time", kind="stable", ignore_index=True)


def _last_shown(outcomes: pd.DataFrame, exposures: pd.DataFrame) -> pd.Series[float]:
    """Return when each outcome's item was last shown to its user before; NaN if never. Outcomes must be in order of time."""
    lists = exposures[["user", "time", "items"]].explode("items").dropna()
    outcomes = outcomes.assign(item=outcomes["item"].astype(str))
    return _last_before(outcomes, lists.assign(item=lists["items"].astype(str)), ["user", "item"])


def _last_before(outcomes: pd.DataFrame, exposures: pd.DataFrame, by: list[str]) -> pd.Series[float]:
    if outcomes.empty or exposures.empty:
        return pd.Series(np.nan, outcomes.index)
    shown = exposures[[*by, "time"]].assign(shown_at=exposures["time"]).sort_values("time", kind="stable")
    joined = pd.merge_asof(outcomes[[*by, "time"]], shown, on="time", by=by)
    return joined["shown_at"].set_axis(outcomes.index)


def _inside(experiment: Experiment, users: pd.Series[str]) -> npt.NDArray[np.bool_]:
    """Return which users the file assigns to the experiment, whether they were exposed or not."""
    low, high = experiment.users
    places = {user: place_of("users", user) for user in users.unique()}
    return np.array([low <= places[user] < high for user in users], dtype=bool)
