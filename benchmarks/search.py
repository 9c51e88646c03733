"""Search for SS4Rec's settings: `python -m benchmarks.search --source ml-1m --data ml-1m.zip --seconds 420`.

A bounded search by Optuna (TPE; trials below the median of the others at the same epoch are cut off). A trial's value is
its best valid NDCG@10; the test part is never looked at. It begins with two given points, the authors' settings and a
wider network. One seed trains every trial, and it is not among those that the quality tables report.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from typing import Any, get_args

import optuna
import torch

from benchmarks.data import load_split
from benchmarks.report import hardware, write_json
from configs.settings import ProtocolId, SourceName, SS4RecSettings
from models.protocol import Split
from models.recommender import EpochReport
from models.ss4rec.recommender import SS4Rec

SEED = 90
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


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The space; what is not in it keeps its default."""
    return {
        "width": trial.suggest_categorical("width", [64, 128, 192, 256]),
        "blocks": trial.suggest_int("blocks", 1, 3),
        "time_state": trial.suggest_categorical("time_state", [16, 32, 64]),
        "relation_state": trial.suggest_categorical("relation_state", [8, 16, 32]),
        "dropout": trial.suggest_float("dropout", 0.1, 0.6, step=0.05),
        "embedding_dropout": trial.suggest_float("embedding_dropout", 0.0, 0.5, step=0.05),
        "two_norms": trial.suggest_categorical("two_norms", [True, False]),
        "interval": trial.suggest_categorical("interval", ["seconds", "log1p", "learned"]),
        "loss": trial.suggest_categorical("loss", ["cross_entropy", "sampled_softmax", "gbce"]),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.05),
        "weight_averaging": trial.suggest_categorical("weight_averaging", [0.0, 0.99, 0.995, 0.998]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
        "batch_tokens": trial.suggest_categorical("batch_tokens", [8192, 16384, 32768]),
    }


def main() -> None:
    """Search within the bounds given, write every trial, print the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release")
    parser.add_argument("--protocol", default="loo-recbole", choices=get_args(ProtocolId))
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=420, help="no trial begins after this")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=6)
    parser.add_argument("--max-length", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parts = load_split(given.source, given.data, given.protocol)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=SEED, n_startup_trials=10, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=8, interval_steps=4),
    )
    for start in STARTS:
        study.enqueue_trial(start)
    fixed = {"max_length": given.max_length, "max_epochs": given.epochs, "patience": given.patience}

    def record(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        print(f"{trial.number} {trial.state.name.lower()} {trial.value} {trial.params} {trial.user_attrs}", flush=True)
        write_json(given.out, _result(study, given, fixed))

    study.optimize(
        lambda trial: _train(trial, parts, fixed),
        n_trials=given.trials,
        timeout=given.seconds,
        callbacks=[record],
    )
    print(f"best: trial {study.best_trial.number}, valid NDCG@10 {study.best_value:.4f}, {study.best_params}")


def _train(trial: optuna.Trial, parts: Split, fixed: dict[str, Any]) -> float:
    model = SS4Rec(SS4RecSettings(**suggest(trial), **fixed))
    started = time.monotonic()

    def on_epoch(epoch: EpochReport) -> None:
        trial.set_user_attr("epochs", epoch.epoch)
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        trial.report(epoch.valid["ndcg@10"], epoch.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        report = model.fit(
            parts.train, parts.valid, parts.catalogue, seed=SEED, mask_seen=parts.masks_seen(sequential=True), on_epoch=on_epoch
        )
    finally:
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return float(max(epoch.valid["ndcg@10"] for epoch in report.epochs))


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
            {"number": t.number, "state": t.state.name.lower(), "value": t.value, "params": t.params, **t.user_attrs}
            for t in study.trials
        ],
    }


if __name__ == "__main__":
    main()
