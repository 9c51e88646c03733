"""Search for the settings of each kind: `python -m benchmarks.ranking.search --source ml-1m --data ml-1m.zip --seconds 520`.

Uses the product's own trials, sampler and pruner (`models/search.py`) without Prefect or a store. All kinds get the same budget at the
same time: the same number of processes on one GPU for the same seconds. All trials use the same seed, which is not one of the seeds in
the quality tables. Each search starts from given points, and then follows its own results.

Every trial trains with a learning rate that falls like half a cosine to 0, so that a rate is judged by where it ends and not by how
soon it is stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import optuna
import torch
from optuna.storages.journal import JournalFileBackend

from benchmarks.data import load_split, origin
from benchmarks.report import hardware, write_result
from configs.cores import available_cores
from configs.errors import TrainingError
from configs.kinds import Parameter, spec_of
from configs.settings import ProtocolId, SourceName
from configs.studies import Pruning
from infra.pages import markdown_table
from models.recommender import EpochReport
from models.search import TrialData, make_pruner, make_sampler, run_trial, train_trial

SEED = 90
KINDS = ("ss4rec", "sasrec", "gsasrec", "esasrec", "hstu", "lrurec")
FURTHER = "ss4rec-further"
POLL_S = 15.0
PRUNING = Pruning(warmup_epochs=6, interval=2, startup_trials=3)
COMMON: dict[str, Parameter] = {
    "width": Parameter(choices=(64, 128, 192, 256)),
    "blocks": Parameter(low=1, high=6),
    "dropout": Parameter(low=0.1, high=0.5, step=0.05),
    "embedding_dropout": Parameter(low=0.0, high=0.5, step=0.05),
    "interval_embedding": Parameter(choices=(False, True)),
    "weight_averaging": Parameter(choices=(0.0, 0.99, 0.995, 0.998)),
    "learning_rate": Parameter(low=5e-4, high=1e-2, log=True),
    "batch_tokens": Parameter(choices=(8192, 16384, 32768)),
}
SMOOTHING = {"label_smoothing": Parameter(low=0.0, high=0.3, step=0.05)}
HEADS = {"heads": Parameter(choices=(1, 2, 4, 8))}
SPACES: dict[str, dict[str, Parameter]] = {
    "ss4rec": COMMON
    | SMOOTHING
    | {
        "norm": Parameter(choices=("post", "pre")),
        "time_state": Parameter(choices=(16, 32, 64)),
        "relation_state": Parameter(choices=(8, 16, 32)),
        "interval": Parameter(choices=("seconds", "log1p", "learned")),
        "step_min": Parameter(low=1e-8, high=1e-3, log=True),
        "step_max": Parameter(low=1e-2, high=1.0, log=True),
    },
    "sasrec": COMMON | SMOOTHING | HEADS,
    "gsasrec": COMMON
    | HEADS
    | {"negatives": Parameter(choices=(64, 128, 256, 512)), "calibration": Parameter(low=0.0, high=1.0, step=0.05)},
    "esasrec": COMMON | SMOOTHING | HEADS,
    "hstu": COMMON | SMOOTHING | HEADS | {"blocks": Parameter(low=2, high=8)},
    "lrurec": COMMON | SMOOTHING,
}
"""What is searched for each kind. The losses are fixed: cross-entropy over the full catalogue, for gSASRec its own."""

SPACES[FURTHER] = {
    "width": Parameter(choices=(128, 192)),
    "blocks": Parameter(low=3, high=6),
    "dropout": Parameter(low=0.1, high=0.35, step=0.05),
    "embedding_dropout": Parameter(low=0.1, high=0.4, step=0.05),
    "weight_averaging": Parameter(choices=(0.99, 0.995, 0.998)),
    "learning_rate": Parameter(low=1e-3, high=6e-3, log=True),
    "batch_tokens": Parameter(choices=(8192, 16384)),
    "label_smoothing": Parameter(low=0.0, high=0.2, step=0.05),
    "norm": Parameter(choices=("post", "pre")),
    "step_min": Parameter(low=1e-8, high=1e-5, log=True),
    "schedule": Parameter(choices=("constant", "cosine")),
    "clip_norm": Parameter(choices=(1.0, 5.0)),
    "calendar_input": Parameter(choices=(False, True)),
}
"""A narrower space for SS4Rec, around what its equal search found. It is searched beyond the budget that all kinds share."""

TIMED = {"interval_embedding": True}
STARTS: dict[str, list[dict[str, Any]]] = {
    "ss4rec": [
        TIMED
        | {"width": 128, "blocks": 4, "time_state": 32, "relation_state": 8, "dropout": 0.15, "embedding_dropout": 0.25}
        | {"norm": "post", "interval": "seconds", "step_min": 1e-7, "step_max": 0.1, "label_smoothing": 0.1}
        | {"weight_averaging": 0.995, "learning_rate": 3e-3, "batch_tokens": 8192},
        TIMED
        | {"width": 128, "blocks": 6, "time_state": 32, "relation_state": 8, "dropout": 0.2, "embedding_dropout": 0.25}
        | {"norm": "pre", "interval": "seconds", "step_min": 1e-7, "step_max": 0.1, "label_smoothing": 0.1}
        | {"weight_averaging": 0.99, "learning_rate": 4e-3, "batch_tokens": 16384},
    ],
    **{
        kind: [
            TIMED
            | {"width": 128, "blocks": blocks, "dropout": 0.2, "embedding_dropout": 0.2, "weight_averaging": averaging}
            | {"learning_rate": rate, "batch_tokens": tokens}
            | ({"label_smoothing": 0.1} if kind != "gsasrec" else {"negatives": 256, "calibration": 0.75})
            | ({"heads": 2} if kind != "lrurec" else {})
            for blocks, averaging, rate, tokens in ((3, 0.99, 2e-3, 8192), (4, 0.99, 3e-3, 16384))
        ]
        for kind in KINDS[1:]
    },
}
"""Two points where each search begins: a network as deep as the default, and a deeper one with larger steps."""

FIXED: dict[str, dict[str, Any]] = {
    FURTHER: {"interval_embedding": True, "interval": "seconds", "step_max": 0.1, "time_state": 32, "relation_state": 8}
}
_FOUND: dict[str, Any] = {
    "width": 128,
    "blocks": 4,
    "dropout": 0.15,
    "embedding_dropout": 0.25,
    "weight_averaging": 0.995,
    "learning_rate": 3e-3,
} | {
    "batch_tokens": 8192,
    "label_smoothing": 0.1,
    "norm": "post",
    "step_min": 1e-7,
    "schedule": "cosine",
    "clip_norm": 5.0,
    "calendar_input": False,
}
STARTS[FURTHER] = [
    _FOUND | changed
    for changed in (
        {"weight_averaging": 0.998, "schedule": "constant"},
        {"dropout": 0.2, "embedding_dropout": 0.3},
        {"blocks": 5, "learning_rate": 2e-3, "dropout": 0.2},
        {"blocks": 6, "norm": "pre", "dropout": 0.2, "weight_averaging": 0.995, "clip_norm": 1.0},
        {"width": 192, "dropout": 0.25, "embedding_dropout": 0.35, "learning_rate": 2e-3},
        {"dropout": 0.2, "label_smoothing": 0.15, "batch_tokens": 16384, "learning_rate": 4e-3},
        {"blocks": 5, "weight_averaging": 0.998, "schedule": "constant", "learning_rate": 2e-3},
        {"dropout": 0.25, "weight_averaging": 0.998, "schedule": "constant"},
        {"calendar_input": True},
        {"calendar_input": True, "dropout": 0.2, "embedding_dropout": 0.3, "weight_averaging": 0.998, "learning_rate": 2e-3},
        {"calendar_input": True, "blocks": 5, "dropout": 0.25, "embedding_dropout": 0.3, "learning_rate": 2e-3},
        {"dropout": 0.2, "embedding_dropout": 0.35, "weight_averaging": 0.998, "learning_rate": 2e-3},
    )
]
"""Changes, one or two at a time, of what the equal search found."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Worker:
    """One process of one kind's search."""

    name: str  # of the study: a kind, or FURTHER
    number: int
    journal: Path
    source: SourceName
    data: Path | None
    protocol: ProtocolId
    fixed: dict[str, Any]
    until: float

    @property
    def kind(self) -> str:
        return "ss4rec" if self.name == FURTHER else self.name

    @property
    def study(self) -> optuna.Study:
        """The kind's study, which all of its workers share."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            study_name=self.name,
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(self.journal))),
            direction="maximize",
            sampler=make_sampler(SEED, worker=self.number),
            pruner=make_pruner(PRUNING),
            load_if_exists=True,
        )


def main() -> None:
    """Search within the given bounds, write every trial while it goes on, and print the best ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release")
    parser.add_argument("--protocol", default="loo-exact", choices=get_args(ProtocolId))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=[*KINDS, FURTHER])
    parser.add_argument("--workers", type=int, default=2, help="processes for each kind")
    parser.add_argument("--seconds", type=float, default=520, help="all trials end after this time")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--max-length", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    given = parser.parse_args()
    load_split(given.source, given.data, given.protocol)  # downloads the data once, and fails early if it cannot be read
    fixed = {
        "max_length": given.max_length,
        "max_epochs": given.epochs,
        "patience": given.patience,
        "schedule": "cosine",
        "warm_up": 0.05,
    }
    said = origin(given.source, given.data) | {
        "hardware": hardware(),
        "protocol": given.protocol,
        "metric": "valid ndcg@10",
        "seed": SEED,
        "bounds": {"seconds": given.seconds, "workers": given.workers, "kinds": len(given.kinds)},
        "fixed": fixed,
    }
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // (given.workers * len(given.kinds)))))
    with tempfile.TemporaryDirectory() as folder:
        until, journal = time.time() + given.seconds, Path(folder) / "journal.log"
        work = [
            Worker(name, number, journal, given.source, given.data, given.protocol, fixed | FIXED.get(name, {}), until)
            for name in given.kinds
            for number in range(given.workers)
        ]
        for worker in work:
            if worker.number == 0:
                for start in STARTS[worker.name]:
                    worker.study.enqueue_trial(start)
        started = [multiprocessing.get_context("spawn").Process(target=_search, args=(worker,)) for worker in work]
        for process in started:
            process.start()
        while any(process.is_alive() for process in started):
            started[0].join(POLL_S)
            studies = {worker.name: study_of(worker, len(work)) for worker in work if worker.number == 0}
            result = {**said, "studies": studies}
            write_result(given.out, result)
    print(render(json.loads(given.out.read_text(encoding="utf-8"))))


def render(result: Result) -> str:
    """Return the best settings of each kind as a Markdown table."""
    head = ["kind", "valid NDCG@10", "median of the trials", "trials", "cut off early", "GPU s", "best settings"]
    rows = []
    for name, study in result["studies"].items():
        trials = study["trials"]
        best = next((trial for trial in trials if trial["number"] == study["best"]), None)
        if best is None:
            continue
        rows.append(
            [
                "SS4Rec, further" if name == FURTHER else spec_of(name).label,
                f"{best['value']:.4f}",
                f"{statistics.median(trial['value'] for trial in trials):.4f}",
                str(len(trials)),
                str(sum(trial["state"] == "pruned" for trial in trials)),
                f"{study['gpu_seconds']:.0f}",
                ", ".join(f"{setting} {_number(value)}" for setting, value in best["params"].items()),
            ]
        )
    return markdown_table(head, rows)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _search(worker: Worker) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    spec = spec_of(worker.kind)
    data = TrialData.of(load_split(worker.source, worker.data, worker.protocol))
    base = spec.settings.model_validate(worker.fixed)

    def in_time(_: EpochReport) -> None:
        if time.time() > worker.until:
            raise optuna.TrialPruned("the time of the search is over")

    def told(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        print(
            f"{worker.kind} {trial.number} {trial.state.name.lower()} {trial.value} {trial.params} {_length(trial)}", flush=True
        )

    worker.study.optimize(
        lambda trial: run_trial(trial, SPACES[worker.name], spec, base, partial(train_trial, spec, data, SEED), in_time),
        timeout=worker.until - time.time(),
        callbacks=[told],
        catch=(TrainingError,),
    )


def study_of(worker: Worker, at_once: int) -> dict[str, Any]:
    """Return the finished trials of a kind. `gpu_seconds` are their seconds divided by the number of trainings at once."""
    rows = [
        {"number": t.number, "state": t.state.name.lower(), "value": _reached(t), "params": t.params, **_length(t)}
        for t in worker.study.trials
        if t.state.is_finished()
    ]
    return {
        "fixed": worker.fixed,
        "best": max(rows, key=lambda row: row["value"])["number"] if rows else None,
        "gpu_seconds": round(sum(row["seconds"] for row in rows) / at_once, 1),
        "trials": rows,
    }


def _reached(trial: optuna.trial.FrozenTrial) -> float:
    """Return the best value of a trial, also of one that was cut off: the end of the search cuts off those that still run."""
    return max(trial.intermediate_values.values(), default=0.0)


def _length(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return {"epochs": max(trial.intermediate_values, default=0), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
