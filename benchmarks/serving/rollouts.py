"""How soon a rollout returns a bad champion, and how rarely a good one: `python -m benchmarks.serving.rollouts`.

Users and what workers measure of their requests are simulated; the hash that assigns them and the comparison that decides are the
product's. A case is a new version that the gate would let through. Each user of the population asks once or twice within the stage, at
random times.

The first table has the time until the return in the first stage, by traffic. The second one has the share of rollouts that return
although the two versions do not differ (A/A), over both stages.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import hardware, write_result
from configs.cores import available_cores
from configs.settings import RolloutSettings
from infra.measurements import Agreement, Event, FirstAnswer, user_number
from infra.pages import markdown_table
from infra.registry import Rollout
from serving.rollout import Underway
from serving.rollout.measuring import ASKED, MOST_USERS, TOP
from serving.rollout.sides import place_in
from tasks.rollout import Check, Evidence, compare_versions

__all__ = ["CASES", "Case", "Stage", "render", "returned_share", "simulate"]

START, BAKE_S = 1_790_000_000, 3600
TRAFFIC = (10_000, 50_000, 250_000, 1_000_000)  # users in an hour
ITEMS, TASTES, TASTE_ITEMS = 2_000, 50, 30  # each user likes the items of one taste
NEW_USERS = 0.1  # of all
ERRORS, EMPTY = 2e-4, 5e-4  # of requests, whatever the version
CPU_S, SPREAD = 0.002, 0.5  # of an answer: median, and standard deviation of its logarithm
OUTCOMES = 0.2  # of users
AGAIN = 0.4  # users ask once more with this probability
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A new version, by what differs from the old one."""

    name: str
    slower_s: float = 0.0
    empty_for_new: bool = False
    clone: bool = False  # everybody gets the most popular items
    outcomes: float = 1.0  # times those of the old version
    crashes: float = 0.0  # share of the users whose requests fail


SAME = Case("no difference")
CASES = (
    Case("30 ms of CPU time slower", slower_s=0.030),
    Case("empty lists for new users", empty_for_new=True),
    Case("a clone of popularity", clone=True),
    Case("10 % fewer outcomes", outcomes=0.9),
    Case("a crash for one user in 1,000", crashes=0.001),
)


@dataclass(frozen=True)
class Stage:
    """What a simulated stage showed."""

    worse: dict[str, int]  # check -> seconds after which it was shown
    new_share: float  # of the requests that the new version was asked
    canary_users: int


def simulate(case: Case, users: int, seed: int, stage: int = 0, settings: RolloutSettings | None = None) -> Stage:
    """Simulate one stage.

    Args:
        case: The new version.
        users: Users who ask within the stage.
        seed: Of everything that is random. It names the new version, too, so it decides who gets it.
        stage: Number of the stage, from 0.
        settings: What is tolerated.
    """
    settings = settings or RolloutSettings(enabled=True)
    rollout = Rollout("old", "", tuple(settings.stages), stage, START, 2, settings.model_dump(mode="json"))
    underway = Underway(f"new {seed}", rollout)
    evidence = _World(case, underway, np.random.default_rng([seed, stage])).evidence(users)
    checks = compare_versions(evidence, rollout, settings, underway.measured_share)
    worse = {check.name: _after(check) for check in checks if check.verdict == "worse"}
    new_share = evidence.requests[1] / sum(evidence.requests)
    return Stage(worse, new_share, sum(row.new for row in evidence.answers.values()))


class _World:
    """Users, and two versions that answer them. What workers would measure is drawn for all users at once."""

    def __init__(self, case: Case, underway: Underway, rng: np.random.Generator) -> None:
        self.case, self.underway, self.rng = case, underway, rng
        self._tastes = np.stack([rng.permutation(ITEMS)[:TASTE_ITEMS] for _ in range(TASTES)])

    def evidence(self, users: int) -> Evidence:
        """Let the users ask, and return what is known afterwards."""
        rng = self.rng
        places = np.array([place_in(self.underway.version, user) for user in range(users)])
        new, measured = places < self.underway.rollout.share, places < self.underway.measured_share
        first = rng.integers(0, BAKE_S, users)
        again = np.flatnonzero(rng.random(users) < AGAIN)
        user = np.concatenate([np.arange(users), again])
        at = START + np.concatenate([first, rng.integers(first[again], BAKE_S)])
        order = np.argsort(at, kind="stable")
        user, at = user[order], at[order]
        asked = new[user]
        chance = rng.random(len(user))
        failed = (chance < ERRORS) | (asked & self._is_hit(user, self.case.crashes))
        empty = ~failed & ((chance < ERRORS + EMPTY) | (asked & self._is_hit(user, NEW_USERS * self.case.empty_for_new)))
        found = Evidence(requests=[int((~asked).sum()), int(asked.sum())])
        self._happened(found, "errors", user[failed], at[failed], new)
        self._happened(found, "empty", user[empty], at[empty], new)
        if self.case.clone:  # whoever comes back has new events and gets the same list
            back = asked & ~failed & ~empty & (at > START + first[user])
            self._happened(found, "repeated", user[back], at[back], new)
        answered = np.flatnonzero(~failed & measured[user])
        _, firsts = np.unique(user[answered], return_index=True)
        answered = answered[np.sort(firsts)[:MOST_USERS]]
        self._answers(found, user[answered], at[answered], asked[answered], empty[answered])
        did = np.flatnonzero(rng.random(users) < OUTCOMES * np.where(new, self.case.outcomes, 1.0))
        found.outcomes = {user_number(int(each)): int(START + first[each] + 30) for each in did if measured[each]}
        return found

    def _is_hit(self, user: IntArray, share: float) -> BoolArray:
        return user % round(1 / share) == 0 if share else np.zeros(len(user), bool)

    def _happened(self, found: Evidence, kind: str, user: IntArray, at: IntArray, new: BoolArray) -> None:
        for each, time in zip(user.tolist(), at.tolist(), strict=True):
            number = user_number(each)
            found.events[kind].setdefault(number, Event(number, time, bool(new[each])))

    def _answers(self, found: Evidence, user: IntArray, at: IntArray, new: BoolArray, empty: BoolArray) -> None:
        """Draw how long the answers took, what they had in common, and what the old version would have shown instead."""
        cpu = CPU_S * np.exp(SPREAD * self.rng.standard_normal(len(user))) + self.case.slower_s * new
        lists = self._lists(user)
        if self.case.clone:
            lists[new] = ITEMS + np.arange(TOP)
        alike: list[float | None] = [None] * len(user)
        for side in (False, True):
            rows = np.flatnonzero((new == side) & ~empty)
            before, after = rows[0 : len(rows) // 2 * 2 : 2], rows[1::2]
            for row, share in zip(after.tolist(), _common(lists[before], lists[after]), strict=True):
                alike[row] = share
        agreed = _common(lists, self._lists(user))
        for row, each in enumerate(user.tolist()):
            number, time, is_new = user_number(each), int(at[row]), bool(new[row])
            found.answers[number] = FirstAnswer(number, time, is_new, float(cpu[row]), alike[row])
            if is_new and not empty[row] and number % ASKED == 0:
                found.agreements[number] = Agreement(number, time, agreed[row])

    def _lists(self, user: IntArray) -> IntArray:
        """Return the top ten of each user, (N, TOP): items of the user's taste in a random order."""
        places = np.argsort(self.rng.random((len(user), TASTE_ITEMS)), axis=1)[:, :TOP]
        return self._tastes[user[:, None] % TASTES, places]


def _common(one: IntArray, other: IntArray) -> list[float]:
    """Return the share of each list that the other one has too."""
    found: list[float] = ((one[:, :, None] == other[:, None, :]).any(axis=2).sum(axis=1) / TOP).tolist()
    return found


def _after(check: Check) -> int:
    assert check.at is not None, "a check that shows something says when"
    return check.at - START


def _first_stage(case: Case, users: int, seed: int) -> dict[str, Any]:
    found = simulate(case, users, seed)
    return {"after_s": min(found.worse.values()) if found.worse else None, "new_share": found.new_share}


def _returns(users: int, seed: int) -> bool:
    """Return whether a rollout of a version that does not differ returns at any stage."""
    stages = range(len(RolloutSettings(enabled=True).stages) - 1)
    return any(simulate(SAME, users, seed, stage).worse for stage in stages)


def returned_share(bakes: int, users: int, workers: int = 1) -> float:
    """Return the share of rollouts that return although the two versions do not differ.

    Args:
        bakes: Simulated rollouts.
        users: Users who ask in each stage.
        workers: Processes.
    """
    if workers == 1:
        return sum(map(partial(_returns, users), range(bakes))) / bakes
    with ProcessPoolExecutor(workers) as pool:
        return sum(pool.map(partial(_returns, users), range(bakes), chunksize=4)) / bakes


def render(result: dict[str, Any]) -> str:
    """Return both tables as one."""
    rows = []
    for row in result["rows"]:
        if "returned" in row:  # without a difference, over all stages
            said = f"{row['case']}: {row['returned']:.1%} of {row['bakes']:,} rollouts return"
            rows.append([said, *[""] * len(result["traffic"]), ""])
            continue
        shown = [f"{after / 60:.1f} min" if after is not None else "not in the stage" for after in row["after_s"]]
        rows.append([row["case"], *shown, f"{row['new_share']:.1%}"])
    traffic = [f"{users:,} users an hour" for users in result["traffic"]]
    return markdown_table(["new version", *traffic, "requests touched"], rows)


def main() -> None:
    """Measure all cases, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="simulated stages for each case and traffic")
    parser.add_argument("--bakes", type=int, default=1000, help="simulated rollouts without a difference")
    parser.add_argument("--bake-users", type=int, default=5_000, help="users in each stage of these")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rollouts.json"))
    parser.add_argument("--traffic", type=int, nargs="+", default=list(TRAFFIC), help="users in an hour")
    options = parser.parse_args()
    workers = available_cores()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(workers) as pool:
        for case in CASES:
            after: list[float | None] = []
            touched = []
            for users in options.traffic:
                found = list(pool.map(partial(_first_stage, case, users), range(options.seeds)))
                times = sorted(BAKE_S + 1 if each["after_s"] is None else each["after_s"] for each in found)
                median = statistics.median(times)
                after.append(median if median <= BAKE_S else None)
                touched += [each["new_share"] for each in found]
            rows.append({"case": case.name, "after_s": after, "new_share": max(touched)})
    returned = returned_share(options.bakes, options.bake_users, workers)
    rows.append({"case": SAME.name, "returned": returned, "bakes": options.bakes, "users": options.bake_users})
    result = {"seeds": [*range(options.seeds)], "traffic": options.traffic, "rows": rows, "hardware": hardware()}
    print(render(result))
    write_result(options.out, result)


if __name__ == "__main__":
    main()
