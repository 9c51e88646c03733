"""Checks whether an experiment can be trusted. Lost logs and assignment faults look like effects, so they are checked first."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from configs.period import Period
from configs.serving import Experiment, ExperimentFile
from models.evaluation import ratio_mismatch
from serving.experiments.assignment import Experiments
from serving.experiments.attribution import joined_outcomes

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
    experiment: Experiment,
    now: pd.DataFrame,
    logged: pd.DataFrame,
    users: pd.DataFrame,
    crossed: set[str],
    outcomes: pd.DataFrame,
) -> list[Check]:
    """Return all checks of an experiment.

    Args:
        experiment: The experiment as configured.
        now: Exposures of the current revision.
        logged: All exposures to users, of any experiment and revision and of none.
        users: Users who saw one arm, with the time of their first exposure and their arm.
        crossed: Users who were exposed to more than one arm or revision.
        outcomes: Outcomes as returned by `read_outcomes`.
    """
    analysis = experiment.analysis
    interleaved = experiment.kind == "interleaving"
    if interleaved:  # a coin decides which arm drafts first
        first = now["teams"].str[0]
        counts = [int((first == arm.name).sum()) for arm in experiment.arms]
        shares: tuple[float, ...] = (0.5, 0.5)
    else:
        counts, shares = [int((users["arm"] == arm.name).sum()) for arm in experiment.arms], experiment.shares
    p = ratio_mismatch(counts, shares)
    expected = [share * sum(counts) for share in shares]
    ratio = ", ".join(f"{a.name} {n:,} of {e:,.0f} expected" for a, n, e in zip(experiment.arms, counts, expected, strict=True))
    everyone = len(users) + len(crossed)
    crossed_share = len(crossed) / everyone if everyone else 0.0
    main = _main_version_share(now)
    strangers = _wrongly_assigned(experiment, users)
    joined, of, how = joined_outcomes(experiment, now, logged, outcomes)
    rate = joined / of if of else None
    return [
        Check(
            "sample ratio",
            p,
            f"p >= {analysis.mismatch_alpha:g}",
            p >= analysis.mismatch_alpha,
            f"{'first places' if interleaved else 'users'}: {ratio}",
        ),
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
