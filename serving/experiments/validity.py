"""Checks whether an experiment can be trusted. Lost logs and assignment faults look like effects, so they are checked first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.period import Period
from configs.serving import Experiment, ExperimentFile
from models.evaluation import ratio_mismatch
from serving.experiments.assignment import Experiments, place_of

__all__ = ["Check", "checks_of", "crossed_users"]


@dataclass(frozen=True)
class Check:
    """One condition that must hold for the figures to be trusted."""

    name: str
    figure: float | None
    bound: str
    passed: bool
    detail: str


def crossed_users(shown: pd.DataFrame) -> set[str]:
    """Return the users who were exposed to more than one arm, or in more than one revision."""
    seen = shown[["user", "arm", "revision"]].drop_duplicates()["user"]
    return set(seen[seen.duplicated()])


def checks_of(
    experiment: Experiment, now: pd.DataFrame, users: pd.DataFrame, crossed: set[str], outcomes: pd.DataFrame
) -> list[Check]:
    """Return all checks of an experiment.

    Args:
        experiment: The experiment as configured.
        now: Exposures of the current revision.
        users: Users who saw one arm, with the time of their first exposure and their arm.
        crossed: Users who were exposed to more than one arm or revision.
        outcomes: Outcomes as returned by `read_outcomes`.
    """
    analysis = experiment.analysis
    counts = [int((users["arm"] == arm.name).sum()) for arm in experiment.arms]
    p = ratio_mismatch(counts, experiment.shares)
    expected = [share * sum(counts) for share in experiment.shares]
    ratio = ", ".join(f"{a.name} {n:,} of {e:,.0f} expected" for a, n, e in zip(experiment.arms, counts, expected, strict=True))
    everyone = len(users) + len(crossed)
    crossed_share = len(crossed) / everyone if everyone else 0.0
    main = _main_version_share(now)
    strangers = _wrongly_assigned(experiment, users)
    joined, of, how = _joined(experiment, now, outcomes)
    rate = joined / of if of else None
    return [
        Check("sample ratio", p, f"p >= {analysis.mismatch_alpha:g}", p >= analysis.mismatch_alpha, f"users: {ratio}"),
        Check(
            "join rate",
            rate,
            f">= {analysis.min_join_rate:g}",
            rate is None or rate >= analysis.min_join_rate,
            f"{joined:,} of {of:,} outcomes {how}" if of else "there are no outcomes to join yet",
        ),
        Check(
            "users in one arm",
            crossed_share,
            f"<= {analysis.max_crossed_share:g}",
            crossed_share <= analysis.max_crossed_share,
            f"{len(crossed):,} of {everyone:,} users were exposed to more than one arm or revision and are excluded",
        ),
        Check(
            "assignment",
            float(strangers),
            "= 0",
            strangers == 0,
            f"{strangers:,} of {len(users):,} users are logged in a different arm than their id assigns",
        ),
        Check(
            "one version in each arm",
            main,
            f">= {analysis.min_main_version:g}",
            main >= analysis.min_main_version,
            f"one version gave {main:.1%} of an arm's answers, in the arm where this share is lowest",
        ),
    ]


def _wrongly_assigned(experiment: Experiment, users: pd.DataFrame) -> int:
    """Count users whose logged arm differs from the assigned one. The hash alone decides the arm, so it can be recomputed."""
    always = experiment.model_copy(update={"during": Period(), "active": True})
    experiments = Experiments(ExperimentFile(experiments=(always,)))
    return sum(experiments.assign(user, 0).arm != arm for user, arm in zip(users.index, users["arm"], strict=True))


def _main_version_share(now: pd.DataFrame) -> float:
    """Return the share of an arm's exposures from its main version, in the arm where this share is lowest."""
    shares = now.groupby("arm")["version"].agg(lambda versions: versions.value_counts(normalize=True).iloc[0])
    return float(shares.min()) if len(shares) else 1.0


def _joined(experiment: Experiment, now: pd.DataFrame, outcomes: pd.DataFrame) -> tuple[int, int, str]:
    """Return how many outcomes match an exposure, out of how many, and how they were matched."""
    window = experiment.analysis.window_s
    if len(outcomes) and (outcomes["request"] != "").any():
        named = outcomes[outcomes["request"] != ""]
        pairs = set(zip(now["request"], now["user"], strict=True))
        # Requests outside the experiment do not count, so look only at its own users, who are identified by their ids.
        named = named[_inside(experiment, named["user"]) & named["time"].between(now["time"].min(), now["time"].max() + window)]
        found = sum(pair in pairs for pair in zip(named["request"], named["user"], strict=True))
        return found, len(named), "name a request of the same user in the log"
    own = outcomes[outcomes["time"].between(now["time"].min(), now["time"].max() + window)] if len(now) else outcomes[:0]
    own = own[_inside(experiment, own["user"])].sort_values("time", kind="stable")
    if own.empty:
        return 0, 0, ""
    exposed = now[["user", "time"]].assign(shown_at=now["time"]).sort_values("time", kind="stable")
    matched = pd.merge_asof(own, exposed, on="time", by="user", tolerance=window)
    return int(matched["shown_at"].notna().sum()), len(own), f"of the experiment's users follow an exposure within {window:,} s"


def _inside(experiment: Experiment, users: pd.Series[str]) -> npt.NDArray[np.bool_]:
    """Return which users the file assigns to the experiment, whether they were exposed or not."""
    low, high = experiment.users
    places = {user: place_of("users", user) for user in users.unique()}
    return np.array([low <= places[user] < high for user in users], dtype=bool)
