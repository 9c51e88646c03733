"""Search for SS4Rec's settings: `python -m benchmarks.ranking.search --source ml-1m --data ml-1m.zip --seconds 420`.

Uses the product's own trials, sampler and pruner (`models/search.py`) without Prefect or a store, and only with the larger
batches of a GPU. The search starts from two given points: the authors' settings and a wider network. All trials use the same
seed, which is not one of the seeds in the quality tables.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, get_args

import optuna

from benchmarks.data import load_split
from benchmarks.report import hardware, write_result
from configs.kinds import Parameter, spec_of
from configs.settings import ProtocolId, SourceName, SS4RecSettings
from configs.studies import Pruning
from models.search import TrialData, make_pruner, make_sampler, run_trial, train_trial

SEED = 90
SPEC = spec_of("ss4rec")
SPACE = {**SPEC.space, "batch_tokens": Parameter(choices=(8192, 16384, 32768))}
STARTS: list[dict[str, Any]] = [
    {
        "width": 128,
        "blocks": 2,
        "time_state": 32,
        "relation_state": 16,
        "dropout": 0.3,
        "embedding_dropout": 0.2,
        "two_norms": True,
        "interval": "seconds",
        "loss": "cross_entropy",
        "label_smoothing": 0.1,
        "weight_averaging": 0.99,
        "learning_rate": 4e-3,
        "batch_tokens": 16384,
    },
    {
        "width": 64,
        "blocks": 2,
        "time_state": 32,
        "relation_state": 32,
        "dropout": 0.2,
        "embedding_dropout": 0.0,
        "two_norms": False,
        "interval": "seconds",
        "loss": "cross_entropy",
        "label_smoothing": 0.0,
        "weight_averaging": 0.0,
        "learning_rate": 1e-3,
        "batch_tokens": 8192,
    },
]


def main() -> None:
    """Search within the given bounds, write every trial and print the best one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release")
    parser.add_argument("--protocol", default="loo-recbole", choices=get_args(ProtocolId))
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=420, help="no trial starts after this time")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=6)
    parser.add_argument("--max-length", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parts = load_split(given.source, given.data, given.protocol)
    study = optuna.create_study(
        direction="maximize",
        sampler=make_sampler(SEED),
        pruner=make_pruner(Pruning()),
    )
    for start in STARTS:
        study.enqueue_trial(start)
    fixed = {"max_length": given.max_length, "max_epochs": given.epochs, "patience": given.patience}
    base, data = SS4RecSettings(**fixed), TrialData.of(parts)

    def record(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        print(f"{trial.number} {trial.state.name.lower()} {trial.value} {trial.params} {_length(trial)}", flush=True)
        write_result(given.out, _result(study, given, fixed))

    study.optimize(
        lambda trial: run_trial(trial, SPACE, SPEC, base, partial(train_trial, SPEC, data, SEED)),
        n_trials=given.trials,
        timeout=given.seconds,
        callbacks=[record],
    )
    print(f"best: trial {study.best_trial.number}, valid NDCG@10 {study.best_value:.4f}, {study.best_params}")


def _length(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return {"epochs": max(trial.intermediate_values, default=0), "seconds": round(seconds, 1)}


def _result(study: optuna.Study, given: argparse.Namespace, fixed: dict[str, Any]) -> dict[str, Any]:
    done = [trial for trial in study.trials if trial.value is not None]
    return {
        "hardware": hardware(),
        "data": given.source,
        "protocol": given.protocol,
        "metric": "valid ndcg@10",
        "seed": SEED,
        "bounds": {"trials": given.trials, "seconds": given.seconds},
        "fixed": fixed,
        "best": max(done, key=lambda trial: trial.value or 0.0).number if done else None,
        "trials": [
            {"number": t.number, "state": t.state.name.lower(), "value": t.value, "params": t.params, **_length(t)}
            for t in study.trials
        ],
    }


if __name__ == "__main__":
    main()
