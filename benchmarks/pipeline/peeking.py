"""Error rate of an experiment that is checked after every user: `python -m benchmarks.pipeline.peeking`.

Users enter one by one, are assigned to an arm by a coin flip, and convert at the rate of their arm. After every user, the run is
checked with the confidence sequence of `recsys experiment report` and with a plain 95 % interval. It ends at the first check that
shows a difference. With equal rates, every run that ends is an error.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import hardware, write_result
from infra.pages import markdown_table
from models.evaluation.sequential import difference_path

PLAIN = 1.959963984540054  # standard normal quantile of .975


def main() -> None:
    """Simulate, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.1, help="conversion rate of the control")
    parser.add_argument("--lifts", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.3, 0.5])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peeking.json"))
    given = parser.parse_args()
    rows = [_row(given.rate, lift, given.runs, given.users, given.seed) for lift in given.lifts]
    result = {"users": given.users, "runs": given.runs, "rate": given.rate, "alpha": 0.05, "seed": given.seed, "rows": rows}
    write_result(given.out, result | {"hardware": hardware()})
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = f"{result['runs']:,} experiments of at most {result['users']:,} users, looked at after each; control converts {result['rate']:.0%}"
    rows = []
    for row in result["rows"]:
        what = (
            "no difference: every one shown is an error" if row["lift"] == 0 else f"the challenger is better by {row['lift']:.0%}"
        )
        at = "" if row["median_user"] is None or row["lift"] == 0 else f"{row['median_user']:,.0f}"
        rows.append([what, f"{row['sequential']:.1%}", at, f"{row['plain']:.1%}"])
    return markdown_table([head, "shown by the confidence sequence", "at user (median)", "shown by a plain 95 % interval"], rows)


def _row(rate: float, lift: float, runs: int, users: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sequential, plain, decided = 0, 0, []
    for _ in range(runs):
        treated = rng.random(users) < 0.5
        values = (rng.random(users) < np.where(treated, rate * (1 + lift), rate)).astype(np.float64)
        path = difference_path(values, treated, alpha=0.05, tuned_users=users)
        shown = (path.low > 0) | ((path.high < 0) if lift == 0 else False)
        looked = np.isfinite(path.low)
        lead = path.difference[looked] if lift else np.abs(path.difference[looked])
        plain += bool((lead > PLAIN * path.error[looked]).any())
        sequential += bool(shown.any())
        if shown.any():
            decided.append(int(path.users[shown.argmax()]))
    return {
        "lift": lift,
        "sequential": sequential / runs,
        "plain": plain / runs,
        "median_user": statistics.median(decided) if decided else None,
    }


if __name__ == "__main__":
    main()
