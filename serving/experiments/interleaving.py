"""Interleaving: each user sees a list that two versions drafted in turn, and each item counts for the version that drafted it.

Team-draft interleaving (Radlinski, Kurup and Joachims, How does clickthrough data reflect retrieval quality?, CIKM 2008). Users compare
the versions within one list, so a difference shows with far fewer users than in an A/B test. It says which version users prefer, and not
what they would do if only one of them answered.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random
from typing import TYPE_CHECKING, TypeVar

from configs.serving import AnalysisSettings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["team_credits", "team_draft"]

Id = TypeVar("Id", bound=Hashable)


def team_draft(one: Sequence[Id], other: Sequence[Id], k: int, rng: Random) -> list[tuple[int, int]]:
    """Return the list of two teams: the team (0 or 1) of each item, and the item's place in that team's ranking.

    The team with fewer items drafts next. If both have as many, a coin decides. A team drafts its best item that is not in the list. If it
    has none left, the other one drafts.

    Args:
        one: The ranking of team 0, best first.
        other: The ranking of team 1.
        k: Length of the list.
        rng: The coin.
    """
    rankings, places, sizes = (one, other), [0, 0], [0, 0]
    taken: set[Id] = set()
    drafted: list[tuple[int, int]] = []
    while len(drafted) < k:
        for team in (0, 1):
            while places[team] < len(rankings[team]) and rankings[team][places[team]] in taken:
                places[team] += 1
        able = [team for team in (0, 1) if places[team] < len(rankings[team])]
        if not able:
            break
        turn = (0 if sizes[0] < sizes[1] else 1) if sizes[0] != sizes[1] else rng.randrange(2)
        team = turn if turn in able else able[0]
        taken.add(rankings[team][places[team]])
        drafted.append((team, places[team]))
        sizes[team] += 1
    return drafted


def team_credits(credited: pd.DataFrame, now: pd.DataFrame, names: Sequence[str], analysis: AnalysisSettings) -> pd.DataFrame:
    """Return what each user's outcomes are worth to each team (users, teams).

    An outcome counts for the team that drafted its item in the list of the request that it names, or else in the last list before it
    that showed the item to the user. With `conversion`, an item of a list counts once.

    Args:
        credited: Outcomes that count, as `credited_outcomes` returns them.
        now: Exposures with the columns request, user, time, items and teams.
        names: Names of the teams.
        analysis: `outcome` and `value_cap`.
    """
    import pandas as pd  # servers draft lists, and have no pandas

    lists = now[["request", "user", "time", "items", "teams"]].explode(["items", "teams"]).dropna(subset=["items"])
    lists = lists.assign(item=lists["items"].astype(str), list=lists["request"])[
        ["request", "user", "time", "item", "teams", "list"]
    ]
    named = credited[credited["request"] != ""].merge(lists.drop(columns="time"), on=["request", "user", "item"])
    unnamed = credited[credited["request"] == ""].sort_values("time", kind="stable")
    joined = [named[["user", "item", "value", "teams", "list"]]]
    if len(unnamed) and len(lists):
        last = pd.merge_asof(
            unnamed[["user", "item", "time", "value"]],
            lists.drop(columns="request").sort_values("time", kind="stable"),
            on="time",
            by=["user", "item"],
        )
        joined.append(last.dropna(subset=["teams"])[["user", "item", "value", "teams", "list"]])
    found = pd.concat(joined, ignore_index=True)
    if analysis.outcome == "conversion":
        found = found.drop_duplicates(["user", "item", "list"]).assign(value=1.0)
    sums = found.groupby(["user", "teams"])["value"].sum().unstack(fill_value=0)
    return sums.reindex(columns=list(names), fill_value=0.0).clip(upper=analysis.value_cap)
