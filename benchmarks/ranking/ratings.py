"""How well ratings are predicted: `python -m benchmarks.ranking.ratings --source ml-100k --models means biased_mf ncf ss4rec`.

The rating of each test target is predicted from what came before it, and compared with what the user gave. `means` is the reference:
the global mean, and the shrunk offsets of the item and of the user (Koren 2010). Biased matrix factorisation gets a search on valid RMSE,
by random draws from its own space after its defaults. NCF and SS4Rec have their default settings and a rating head.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from benchmarks.data import load_events, origin
from benchmarks.report import hardware, write_result
from configs.kinds import spec_of
from configs.settings import EvaluationSettings, ProtocolId, SourceName
from infra.pages import markdown_table
from models.biased_mf import BiasedMF, BiasedMFSettings
from models.evaluation import Split, rating_errors, rating_intervals, split
from models.kinds import recommender_class
from models.ratings import RatingOffsets
from models.recommender import Recommender, Requests
from models.sequences import Vocabulary

KINDS = ("means", "biased_mf", "ncf", "ss4rec")
NAMES = {"means": "means of item and user", "biased_mf": "biased MF", "ncf": "NCF with a head", "ss4rec": "SS4Rec with a head"}
RESAMPLES = 10_000
Ratings = npt.NDArray[np.float32]


def main() -> None:
    """Fit each model, write the JSON after each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--protocol", default="loo-exact", choices=get_args(ProtocolId))
    parser.add_argument("--models", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--trials", type=int, default=20, help="trials of the search of biased MF")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ratings.json"))
    given = parser.parse_args()
    parts = split(load_events(given.source, given.data), EvaluationSettings(protocol=given.protocol))
    result: dict[str, Any] = {
        **origin(given.source, given.data),
        "protocol": given.protocol,
        "seed": given.seed,
        "requests": len(parts.test),
        "hardware": hardware(),
        "rows": [],
    }
    for kind in given.models:
        started = time.perf_counter()
        chosen, predicted = _predicted(kind, parts, given.trials, given.seed)
        wanted = _given(parts.test)
        result["rows"].append(
            {
                "model": kind,
                "chosen": chosen,
                "trials": given.trials if kind == "biased_mf" else 0,
                **rating_errors(predicted, wanted),
                "intervals": rating_intervals(predicted, wanted, resamples=RESAMPLES, seed=given.seed),
                "seconds": time.perf_counter() - started,
            }
        )
        write_result(given.out, result)
        print(result["rows"][-1], flush=True)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    rows = []
    for row in result["rows"]:
        settings = ", ".join(f"{name} {value:.4g}" for name, value in row["chosen"].items())
        cells = [
            f"{row[name]:.4f} ({row['intervals'][name][0]:.4f} to {row['intervals'][name][1]:.4f})" for name in ("rmse", "mae")
        ]
        rows.append([NAMES[row["model"]], *cells, settings, str(row["trials"]), f"{row['seconds']:.1f}"])
    return markdown_table(["model", "RMSE", "MAE", "settings", "trials", "seconds"], rows)


def _given(requests: Requests) -> Ratings:
    assert requests.target_ratings is not None
    return requests.target_ratings


def _predicted(kind: str, parts: Split, trials: int, seed: int) -> tuple[dict[str, Any], Ratings]:
    """Return the settings that were chosen, and the rating (R,) of each test target."""
    if kind == "means":
        items = Vocabulary(parts.catalogue)
        offsets = RatingOffsets.of(parts.train, items, kind)
        of_items, of_users = offsets.of_items[items.indices(parts.test.targets)], offsets.of_users(parts.test, items)
        return {}, offsets.clipped(offsets.mean + of_items + of_users)
    if kind == "biased_mf":
        chosen = _searched(parts, trials, seed)
        return chosen, _ratings_of(BiasedMF(BiasedMFSettings.model_validate(chosen)), parts, seed)
    spec = spec_of(kind)
    model: Recommender = recommender_class(spec)(spec.settings.model_validate({"rating_head": True}))
    return {}, _ratings_of(model, parts, seed)


def _ratings_of(model: Recommender, parts: Split, seed: int, valid: bool = False) -> Ratings:
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=parts.masks_seen(model.sequential))
    found = model.predict_ratings(parts.valid if valid else parts.test)
    assert found is not None
    ratings: Ratings = found.numpy()
    return ratings


def _searched(parts: Split, trials: int, seed: int) -> dict[str, Any]:
    """Return the settings of biased MF with the lowest valid RMSE: its defaults, or one of the random draws."""
    rng, tried = np.random.default_rng(seed), list[tuple[float, dict[str, Any]]]()
    space = spec_of("biased_mf").space
    for trial in range(trials):
        chosen: dict[str, Any] = {name: getattr(BiasedMFSettings(), name) for name in space}
        if trial:
            for name, parameter in space.items():
                value = float(np.exp(rng.uniform(np.log(float(parameter.ends[0])), np.log(float(parameter.ends[1])))))
                chosen[name] = round(value) if BiasedMFSettings.model_fields[name].annotation is int else value
        predicted = _ratings_of(BiasedMF(BiasedMFSettings.model_validate(chosen)), parts, seed, valid=True)
        tried.append((rating_errors(predicted, _given(parts.valid))["rmse"], chosen))
    return min(tried, key=lambda each: each[0])[1]


if __name__ == "__main__":
    main()
