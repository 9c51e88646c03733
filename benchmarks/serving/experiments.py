"""Whether `recsys experiment report` recovers a known lift: `python -m benchmarks.serving.experiments`.

Each run simulates one experiment. Users come, are assigned by the product, and see lists, which go through the exposure log to
files. They take a shown film at the rate of their arm, some of them much later, and also do things that no list caused. The
outcomes go to a CSV file, which in one case was exported two days before the log and names no requests. The report reads both.

The true difference follows from the rates. Over many runs, the table compares it with the mean estimate, and counts how often
the interval for one planned look holds it, how often an interval that is valid at all looks does, and how often the checks of
the data pass. Without a difference between the arms (A/A), every difference that is shown is an error.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import hardware, write_result
from configs.serving import AnalysisSettings, Experiment, ExperimentFile, ExposureSettings
from infra.pages import markdown_table
from serving.experiments import Experiments, Exposure, ExposureLog, read_exposures, read_outcomes, report_experiment

HOUR, DAY = 3600, 86_400
START = 1_750_000_000
ENTERING = 6 * DAY  # users enter within this time
VISITS = (0, 20 * HOUR, 70 * HOUR)  # of each user, in seconds after the first
DELAYS, SHARES = (60, 2 * HOUR, 2 * DAY), (0.5, 0.3, 0.2)  # from a list to an outcome on one of its films
ORGANIC, ORGANIC_DELAY = 0.1, 300  # chance, at each visit, of an outcome that no list caused
VALUES = (0.0, 1.0, 4.0)  # of an outcome, equally likely
HORIZON = 4 * DAY
LIST, CATALOGUE = 5, 1000
ANALYSES: dict[str, dict[str, Any]] = {
    "conversion, shown within 1 hour": {"window_s": HOUR},
    "conversion, shown within 1 day": {"window_s": DAY},
    "conversion, shown within 3 days": {"window_s": 3 * DAY},
    "conversion, any": {"attribution": "any"},
    "value, shown within 1 day": {"outcome": "value", "window_s": DAY},
    "value, any": {"outcome": "value", "attribution": "any"},
}


@dataclass(frozen=True)
class Case:
    """What is the same in all runs of a row of the table."""

    name: str
    users: int
    rates: tuple[float, float]  # chance, at each visit, of taking a shown film: control, challenger
    named: bool = True  # outcomes name their request
    early_s: int = 0  # the outcomes were exported this long before the log


def main() -> None:
    """Simulate, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--rate", type=float, default=0.1, help="chance at each visit that a user of the control takes a film")
    parser.add_argument("--lift", type=float, default=0.3, help="of the challenger's rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/experiments.json"))
    given = parser.parse_args()
    better = (given.rate, given.rate * (1 + given.lift))
    cases = [
        Case("A/A", given.users, (given.rate, given.rate)),
        Case("A/B", given.users, better),
        Case("A/B, no request ids, outcomes end 2 days before the log", given.users, better, named=False, early_s=2 * DAY),
    ]
    rows = [row for case in cases for row in measured(case, given.runs, given.seed, given.processes)]
    result = {"users": given.users, "runs": given.runs, "rate": given.rate, "lift": given.lift, "seed": given.seed, "rows": rows}
    write_result(given.out, result | {"alpha": AnalysisSettings().alpha, "hardware": hardware()})
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = [
        f"{result['runs']:,} experiments of {result['users']:,} users for each row",
        "true difference",
        "mean estimate (95 % interval)",
        "planned interval holds it",
        "all-looks interval holds it",
        "planned look shows a difference",
        "any look does",
        "data passes the checks",
    ]
    rows = []
    for row in result["rows"]:
        low, high = row["mean_interval"]
        rows.append(
            [
                f"{row['case']}: {row['analysis']}",
                f"{row['truth']:+.4f}",
                f"{row['mean']:+.4f} ({low:+.4f} to {high:+.4f})",
                *[
                    f"{row[name]:.1%}"
                    for name in ("planned_holds", "all_looks_hold", "planned_shows", "any_look_shows", "trusted")
                ],
            ]
        )
    return markdown_table(head, rows)


def measured(case: Case, runs: int, seed: int, processes: int = 1) -> list[dict[str, Any]]:
    """Return one row for each analysis: figures over all runs of the case."""
    seeds = [int(each) for each in np.random.SeedSequence([seed, len(case.name)]).generate_state(runs)]
    if processes == 1:
        found = [run(case, each) for each in seeds]
    else:
        with ProcessPoolExecutor(processes) as pool:
            found = list(pool.map(partial(run, case), seeds, chunksize=5))
    return [_row(case, name, [each[name] for each in found]) for name in ANALYSES]


def run(case: Case, seed: int) -> dict[str, dict[str, float]]:
    """Simulate one experiment, and return the figures of each analysis of it."""
    made = {
        name: Experiment.model_validate(
            {
                "name": "simulated",
                "salt": str(seed),
                "arms": [{"name": "control", "version": "v1"}, {"name": "challenger", "version": "v2"}],
                "analysis": {"horizon_s": HORIZON, "tuned_users": case.users, "min_users": 100} | analysis,
            }
        )
        for name, analysis in ANALYSES.items()
    }
    exposures, outcomes = simulated(next(iter(made.values())), case, seed)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        log = ExposureLog(ExposureSettings(folder=Path(folder) / "log", flush_s=0.01))
        for each in exposures:
            log.write(each)
        log.close()
        outcomes.to_csv(f"{folder}/outcomes.csv", index=False)
        logged, told = list(read_exposures(Path(folder) / "log")), read_outcomes(Path(folder) / "outcomes.csv")
    assert len(logged) == len(exposures) and len(told) == len(outcomes)
    for name, experiment in made.items():
        report = report_experiment(experiment, logged, told)
        comparison = report.versus[0].comparison
        assert comparison is not None
        found[name] = {
            "difference": comparison.difference,
            "low": comparison.fixed_low,
            "high": comparison.fixed_high,
            "all_low": comparison.low,
            "all_high": comparison.high,
            "decided": float(comparison.decided_at is not None),
            "trusted": float(report.trusted),
            "users": comparison.control_users + comparison.treated_users,
        }
    return found


def simulated(experiment: Experiment, case: Case, seed: int) -> tuple[list[Exposure], pd.DataFrame]:
    """Return the exposures, and the outcomes as columns of a file. Both end where their export was made."""
    rng = np.random.default_rng(seed)
    assigner = Experiments(ExperimentFile(experiments=(experiment,)))
    arms = [arm.name for arm in experiment.arms]
    end = START + ENTERING + HORIZON + DAY
    exposures, outcomes = [], []
    for user in range(case.users):
        first = START + int(rng.integers(0, ENTERING))
        films = rng.choice(CATALOGUE, (len(VISITS), LIST), replace=False)  # no film is shown to a user twice
        for visit, offset in enumerate(VISITS):
            at, shown, request = first + offset, films[visit].tolist(), f"r{user}-{visit}"
            found = assigner.assign(user, at)
            assert found.arm is not None
            exposures.append(Exposure(at, user, request, found.version, shown, found.experiment, found.arm, found.revision))
            if rng.random() < case.rates[arms.index(found.arm)]:
                delay = int(rng.choice(DELAYS, p=SHARES))
                outcomes.append((user, at + delay, shown[int(rng.integers(LIST))], rng.choice(VALUES), request))
            if rng.random() < ORGANIC:
                outcomes.append((user, at + ORGANIC_DELAY, CATALOGUE + 1, rng.choice(VALUES), ""))
    # Traffic goes on until the files are exported, so both reach up to then.
    exposures += [Exposure(end, -1, "last", "v1", [1])]
    outcomes += [(-1, end - case.early_s, 1, 0.0, "")]
    frame = pd.DataFrame(outcomes, columns=["user_id", "timestamp", "item_id", "value", "request_id"])
    frame = frame[frame["timestamp"] <= end - case.early_s]
    return exposures, frame if case.named else frame.drop(columns="request_id")


def truth(rates: tuple[float, float], analysis: dict[str, Any]) -> float:
    """Return the true difference between the arms, from the rates and the delays."""
    settings = AnalysisSettings.model_validate(analysis)
    means = []
    for rate in rates:
        nothing, value = 1.0, 0.0
        for offset in VISITS:
            in_time = sum(
                share
                for delay, share in zip(DELAYS, SHARES, strict=True)
                if offset + delay < HORIZON and (settings.attribution == "any" or delay <= settings.window_s)
            )
            organic = ORGANIC if settings.attribution == "any" and offset + ORGANIC_DELAY < HORIZON else 0.0
            nothing *= (1 - rate * in_time) * (1 - organic)
            value += (rate * in_time + organic) * sum(VALUES) / len(VALUES)
        means.append(value if settings.outcome == "value" else 1 - nothing)
    return means[1] - means[0]


def _row(case: Case, analysis: str, found: list[dict[str, float]]) -> dict[str, Any]:
    true = truth(case.rates, ANALYSES[analysis])
    runs = pd.DataFrame(found)
    mean, error = float(runs["difference"].mean()), float(runs["difference"].std()) / math.sqrt(len(runs))
    return {
        "case": case.name,
        "analysis": analysis,
        "truth": true,
        "mean": mean,
        "mean_interval": [mean - 1.96 * error, mean + 1.96 * error],
        "planned_holds": float(((runs["low"] <= true) & (true <= runs["high"])).mean()),
        "all_looks_hold": float(((runs["all_low"] <= true) & (true <= runs["all_high"])).mean()),
        "planned_shows": float(((runs["low"] > 0) | (runs["high"] < 0)).mean()),
        "any_look_shows": float(runs["decided"].mean()),
        "trusted": float(runs["trusted"].mean()),
        "users": float(runs["users"].mean()),
    }


if __name__ == "__main__":
    main()
