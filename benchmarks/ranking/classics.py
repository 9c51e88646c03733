"""Models that are counted or solved instead of trained: `python -m benchmarks.ranking.classics --source ml-100k`.

Each kind gets a search of the same number of trials, by the product's own sampler, on valid NDCG@10. The first trial is its default
settings. The best settings are then fitted once, because no seed changes these kinds, and rank the test requests over all items and
without those that the user has seen. Popularity has no settings, so it is fitted once.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, get_args

import optuna

from benchmarks.data import load_events, origin
from benchmarks.report import hardware, write_result
from configs.kinds import label_of, spec_of
from configs.settings import EvaluationSettings, ProtocolId, SourceName
from infra.pages import markdown_table
from models.evaluation import Split, metrics, rank_requests, split
from models.kinds import recommender_class
from models.recommender import Recommender
from models.search import METRIC, TrialData, make_sampler, run_trial, train_trial

KINDS = ("popularity", "popular_lately", "markov", "itemknn", "ease")
SEED = 90
RANKINGS = ("masked", "unmasked")
METRICS = ("hr@10", "ndcg@10", "mrr@10")


def main() -> None:
    """Search, fit and rank each kind, write the JSON after each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--protocol", default="loo-exact", choices=get_args(ProtocolId))
    parser.add_argument("--models", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--trials", type=int, default=20, help="trials of each kind's search")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classics.json"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parts = split(load_events(given.source, given.data), EvaluationSettings(protocol=given.protocol))
    result: dict[str, Any] = {
        **origin(given.source, given.data),
        "protocol": given.protocol,
        "seed": SEED,
        "trials": given.trials,
        "requests": len(parts.test),
        "items": len(parts.catalogue),
        "hardware": hardware(),
        "rows": [],
    }
    for kind in given.models:
        result["rows"].append(_row(kind, parts, given.trials))
        write_result(given.out, result)
        print(result["rows"][-1], flush=True)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = [
        "model",
        *(f"{ranking} {name.upper()}" for ranking in RANKINGS for name in METRICS),
        "settings",
        "trials",
        "search, s",
        "fit, s",
    ]
    rows = []
    for row in result["rows"]:
        settings = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row["chosen"].items()
        )
        figures = [f"{row[ranking][name]:.4f}" for ranking in RANKINGS for name in METRICS]
        rows.append(
            [label_of(row["model"]), *figures, settings, str(row["trials"]), f"{row['search_s']:.1f}", f"{row['fit_s']:.2f}"]
        )
    return markdown_table(head, rows)


def _row(kind: str, parts: Split, trials: int) -> dict[str, Any]:
    spec, started = spec_of(kind), time.perf_counter()
    chosen, done = dict[str, Any](), list[dict[str, Any]]()
    if spec.space:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(SEED))
        study.enqueue_trial({name: spec.settings.model_fields[name].default for name in spec.space})
        train = partial(train_trial, spec, TrialData.of(parts), SEED)
        study.optimize(lambda trial: run_trial(trial, spec.space, spec, spec.settings(), train), n_trials=trials)
        chosen = study.best_params
        done = [{"value": trial.value, "params": trial.params} for trial in study.trials]
    searched = time.perf_counter() - started
    model: Recommender = recommender_class(spec)(spec.settings.model_validate(chosen))
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=SEED, mask_seen=parts.masks_seen(model.sequential))
    tested = {
        ranking: metrics(
            rank_requests(model, parts.test, parts.catalogue, mask_seen=ranking == "masked", batch_size=256).ranks, (10,)
        )
        for ranking in RANKINGS
    }
    return {
        "model": kind,
        "settings": model.settings(),
        "chosen": chosen,
        "valid": report.epochs[0].valid[METRIC],
        **tested,
        "trials": len(done),
        "search": done,
        "search_s": searched if done else 0.0,
        "fit_s": report.epochs[0].training_seconds or report.seconds,
    }


if __name__ == "__main__":
    main()
