"""How soon a rollout returns a bad champion, and how rarely a good one: `python -m benchmarks.serving.rollouts`.

Users are simulated and everything else is the product: the hash that assigns them, what workers measure, and the comparison that
decides. A case is a new version that the gate would let through. Each user of the population asks once or more within the stage, at
random times. Requests of users whose answers are not measured change a counter only, so they are counted and not simulated, unless
something happens to them.

The first table has the time until the return in the first stage, by traffic. The second one has the share of rollouts that return
although the two versions do not differ (A/A), over both stages.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import hardware, write_result
from configs.cores import available_cores
from configs.settings import RolloutSettings
from infra.measurements import user_number
from infra.pages import markdown_table
from infra.registry import Rollout
from serving.engine import Answer, Recommended, RecommendJob, RequestTime
from serving.experiments import Assignment
from serving.rollout import Measuring, Underway
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
    world = _World(case, underway, np.random.default_rng([seed, stage]))
    evidence = world.evidence(users)
    checks = compare_versions(evidence, rollout, settings, underway.measured_share)
    worse = {check.name: _after(check) for check in checks if check.verdict == "worse"}
    asked = sum(evidence.requests) + world.unmeasured
    return Stage(worse, evidence.requests[1] / asked, sum(row.new for row in evidence.answers.values()))


class _World:
    """Users, and two versions that answer them."""

    def __init__(self, case: Case, underway: Underway, rng: np.random.Generator) -> None:
        self.case, self.underway, self.rng = case, underway, rng
        self.unmeasured = 0  # requests that are only counted
        self._tastes = rng.integers(0, ITEMS, (TASTES, TASTE_ITEMS))
        self._now = START
        self._measuring = Measuring(underway, "worker", self._ask_old)

    def evidence(self, users: int) -> Evidence:
        """Let the users ask, and return what is known afterwards."""
        rng, found = self.rng, Evidence()
        first = np.sort(rng.integers(0, BAKE_S, users))
        times = [(int(at), user) for user, at in enumerate(first)]
        again = np.flatnonzero(rng.random(users) < AGAIN)
        times += [(int(rng.integers(first[user], BAKE_S)), int(user)) for user in again]
        unlucky = rng.random(len(times))
        outcomes: dict[int, int] = {}
        for number, (at, user) in enumerate(sorted(times)):
            self._now = START + at
            new = self.underway.is_new(user, self._now)
            chance = float(unlucky[number])
            if not new and not self.underway.is_measured(user) and chance > ERRORS + EMPTY:
                self.unmeasured += 1
                continue
            self._request(user, new, chance, number)
            rate = OUTCOMES * (self.case.outcomes if new else 1.0)
            if user_number(user) not in outcomes and rng.random() < rate:
                outcomes[user_number(user)] = self._now + 30
            else:
                outcomes.setdefault(user_number(user), 0)  # one chance for each user
            if number % 1000 == 999 and (measured := self._measuring.take()) is not None:
                found.add([measured])
        if (measured := self._measuring.take()) is not None:
            found.add([measured])
        found.outcomes = {user: at for user, at in outcomes.items() if at}
        return found

    def _request(self, user: int, new: bool, chance: float, number: int) -> None:
        job = self._job(user, new)
        version = self.underway.version if new else "old"
        crashes = new and self.case.crashes and user % round(1 / self.case.crashes) == 0
        result: object = RuntimeError("crash") if crashes or chance < ERRORS else self._answer(user, version, new, chance, number)
        cpu_s = CPU_S * float(np.exp(SPREAD * self.rng.standard_normal())) + (self.case.slower_s if new else 0.0)
        self._measuring.observe(version, {0: job}, {0: result}, cpu_s)

    def _job(self, user: int, new: bool) -> RecommendJob:
        return RecommendJob(Assignment("champion", canary=new), 10, RequestTime.of(None, self._now), user=user)

    def _answer(self, user: int, version: str, new: bool, chance: float, events: int) -> Answer:
        empty = ERRORS <= chance < ERRORS + EMPTY or (new and self.case.empty_for_new and user % round(1 / NEW_USERS) == 0)
        if new and self.case.clone:
            items = list(range(ITEMS, ITEMS + 10))
        else:
            items = [int(item) for item in self.rng.permutation(self._tastes[user % TASTES])[:10]]
        shown = [] if empty else [Recommended(item, "", None, [], None, 0.0, []) for item in dict.fromkeys(items)]
        return Answer(version, "state", "", events, None, shown)

    def _ask_old(self, job: RecommendJob, then: Callable[[Answer | Exception], None]) -> None:
        assert job.user is not None
        then(self._answer(job.user, "old", False, 1.0, 0))


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
    result = {"seeds": options.seeds, "traffic": options.traffic, "rows": rows, "hardware": hardware()}
    print(render(result))
    write_result(options.out, result)


if __name__ == "__main__":
    main()
