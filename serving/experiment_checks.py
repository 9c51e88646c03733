"""May an experiment be believed? Losses in its logs and faults in its assignment look like effects, so they are looked for first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.experiments import Experiment, ExperimentFile
from configs.period import Period
from models.sequential import ratio_mismatch
from serving.experiments import Experiments, place_of

__all__ = ["Check", "checks_of", "crossed_users"]


@dataclass(frozen=True)
class Check:
    """One condition under which figures may be believed."""

    name: str
    figure: float | None
    bound: str
    passed: bool
    detail: str


def crossed_users(shown: pd.DataFrame) -> set[str]:
    """Users who were exposed to more than one arm, or in more than one revision."""
    seen = shown[["user", "arm", "revision"]].drop_duplicates()["user"]
    return set(seen[seen.duplicated()])


def checks_of(
    experiment: Experiment, now: pd.DataFrame, users: pd.DataFrame, crossed: set[str], outcomes: pd.DataFrame
) -> list[Check]:
    """Every check. `now` are the exposures of the present revision, `users` those who saw one arm, with their first time and arm."""
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
            f"{joined:,} of {of:,} outcomes {how}" if of else "there is no outcome to join yet",
        ),
        Check(
            "users in one arm",
            crossed_share,
            f"<= {analysis.max_crossed_share:g}",
            crossed_share <= analysis.max_crossed_share,
            f"{len(crossed):,} of {everyone:,} users were exposed to more than one arm or revision and are left out",
        ),
        Check(
            "assignment",
            float(strangers),
            "= 0",
            strangers == 0,
            f"{strangers:,} of {len(users):,} users are logged in another arm than their id gives them",
        ),
        Check(
            "one version in each arm",
            main,
            f">= {analysis.min_main_version:g}",
            main >= analysis.min_main_version,
            f"{main:.1%} of an arm's answers came from one version, in the arm where it is least",
        ),
    ]


def _wrongly_assigned(experiment: Experiment, users: pd.DataFrame) -> int:
    """Users whose logged arm is not the one that the file assigns; the hash is all that decides, so it can be done again."""
    always = experiment.model_copy(update={"during": Period(), "active": True})
    experiments = Experiments(ExperimentFile(experiments=(always,)))
    return sum(experiments.assign(user, 0).arm != arm for user, arm in zip(users.index, users["arm"], strict=True))


def _main_version_share(now: pd.DataFrame) -> float:
    """Share of an arm's exposures by the version that made most of them, in the arm where it is least."""
    shares = now.groupby("arm")["version"].agg(lambda versions: versions.value_counts(normalize=True).iloc[0])
    return float(shares.min()) if len(shares) else 1.0


def _joined(experiment: Experiment, now: pd.DataFrame, outcomes: pd.DataFrame) -> tuple[int, int, str]:
    """Outcomes that find their exposure, of how many, and how they were looked for."""
    window = experiment.analysis.window_s
    if len(outcomes) and (outcomes["request"] != "").any():
        named = outcomes[outcomes["request"] != ""]
        pairs = set(zip(now["request"], now["user"], strict=True))
        # Requests outside of the experiment are another's: only its own users, who are told by their ids, are looked at.
        named = named[_inside(experiment, named["user"]) & named["time"].between(now["time"].min(), now["time"].max() + window)]
        found = sum(pair in pairs for pair in zip(named["request"], named["user"], strict=True))
        return found, len(named), "name a request that is in the log, of the same user"
    own = outcomes[outcomes["time"].between(now["time"].min(), now["time"].max() + window)] if len(now) else outcomes[:0]
    own = own[_inside(experiment, own["user"])].sort_values("time", kind="stable")
    if own.empty:
        return 0, 0, ""
    exposed = now[["user", "time"]].assign(shown_at=now["time"]).sort_values("time", kind="stable")
    matched = pd.merge_asof(own, exposed, on="time", by="user", tolerance=window)
    return int(matched["shown_at"].notna().sum()), len(own), f"of the experiment's users follow an exposure within {window:,} s"


def _inside(experiment: Experiment, users: pd.Series[str]) -> npt.NDArray[np.bool_]:
    """Which users the file puts into the experiment, whether they were exposed or not."""
    low, high = experiment.users
    places = {user: place_of("users", user) for user in users.unique()}
    return np.array([low <= places[user] < high for user in users], dtype=bool)
