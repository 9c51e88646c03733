"""How often the gate makes a wrong decision: `python -m benchmarks.pipeline.gate`.

One model is trained with two seeds, and both trainings rank MovieLens 100K's test requests. Noise is then added to the scores of
one training. It is scaled so that two noisy copies differ as much as the two trainings do (the spread of per-request NDCG@10
differences). This makes any number of equal challengers and champions, in milliseconds each. The trials:

- A/A: the models are equal; a promotion is wrong.
- A/B: the scores of the challenger's targets are raised until its mean NDCG@10 is higher by a given share; a promotion is right.
  Larger holdouts are requests drawn with replacement.
- A sacrifice: some of the data's users are cut to short histories; the challenger gains overall and loses on these users.
- A popularity clone: the challenger is the popularity baseline.

The real gate makes every decision, with its default settings except for the number of resamples.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.data import load_events
from benchmarks.report import hardware, write_result
from configs.settings import EvaluationSettings, NCFSettings, PopularitySettings, PromotionSettings, SourceName, SS4RecSettings
from infra.pages import markdown_table
from models.evaluation import MISS, Ranking, Split, per_request, rank_requests, slices, split
from models.ncf import NCF
from models.popularity import Popularity
from models.recommender import IntArray, Recommender
from models.ss4rec import SS4Rec
from tasks.evaluation import LoadCheck
from tasks.gate import Decision
from tasks.gate.inputs import Challenger, Champion, GateInputs
from tasks.gate.rules import decide

FloatArray = npt.NDArray[np.float32]
SHORT_SHARE, SHORT_EVENTS = 0.15, 8  # share of users who are cut to their first events, so that there are new users
WORKS = LoadCheck(True, 0.1, 0.01, 0.0, True, "")  # the check of the stored version is not under test here
BEYOND = {"coverage@10": 0.5, "gini@10": 0.8}


@dataclass(frozen=True, eq=False)
class Requests:
    """The parts of the holdout that a decision needs, and the scores to which noise is added."""

    parts: Split
    scores: FloatArray  # (R, n_items); -inf if the user has seen the item
    target: IntArray  # (R,) columns
    baselines: dict[str, Ranking]
    masks: dict[str, npt.NDArray[np.bool_]]
    noise: float

    def __len__(self) -> int:
        return len(self.target)


def main() -> None:
    """Train, run the trials, write the counts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release")
    parser.add_argument("--runs", type=int, default=200, help="decisions per trial")
    parser.add_argument("--null-runs", type=int, default=1000, help="decisions in the A/A trial")
    parser.add_argument("--gains", nargs="+", type=float, default=[0.05, 0.10, 0.20])
    parser.add_argument("--holdouts", nargs="+", type=int, default=[0, 6040], help="requests; 0 is the data's own holdout")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=SS4RecSettings().max_epochs)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gate.json"))
    given = parser.parse_args()
    settings = PromotionSettings(resamples=given.resamples)
    started = time.monotonic()
    asked = _requests(given)
    print(f"{time.monotonic() - started:.0f} s: trained; noise {asked.noise:.3f} of a score", flush=True)
    rng = np.random.default_rng(given.seed)
    trials = [_trial(Experiment("A/A: the same model twice", "held"), asked, settings, rng, given.null_runs)]
    for size in given.holdouts:
        for gain in given.gains:
            better = Experiment(f"A/B: NDCG@10 higher by {gain:.0%}", "promoted", gain, size)
            trials.append(_trial(better, asked, settings, rng, given.runs))
    unfair = Experiment("gains overall, loses new users", "held", 0.5, sacrifice=True)
    trials.append(_trial(unfair, asked, settings, rng, given.runs))
    trials.append(_clone(asked, settings))
    result = {
        "data": given.source,
        "protocol": asked.parts.id,
        "requests": len(asked),
        "noise": asked.noise,
        "resamples": given.resamples,
        "seed": given.seed,
        "hardware": hardware(),
        "trials": trials,
    }
    write_result(given.out, result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the trials as a Markdown table."""
    rows = []
    for trial in result["trials"]:
        low, high = trial["interval"]
        held = ", ".join(f"{name} {count}" for name, count in trial["failed_rules"].items())
        share = f"{trial['promoted'] / trial['runs']:.1%}"
        counts = [f"{trial['requests']:,}", str(trial["runs"]), share, f"{low:.1%} to {high:.1%}"]
        rows.append([trial["name"], *counts, trial["wanted"], held])
    head = ["trial", "requests", "decisions", "promoted", "95 % interval", "must be", "rules that held it"]
    return markdown_table(head, rows)


def _requests(given: argparse.Namespace) -> Requests:
    events = load_events(given.source, given.data)
    rng = np.random.default_rng(given.seed)
    users = events["user_id"].unique()
    short = rng.choice(users, int(SHORT_SHARE * len(users)), replace=False)
    place = events.sort_values(["timestamp", "row"]).groupby("user_id").cumcount().reindex(events.index)
    events = events[~events["user_id"].isin(short) | (place < SHORT_EVENTS)]
    parts = split(events, EvaluationSettings(k_core=2))
    settings = SS4RecSettings(max_epochs=given.epochs)
    scores = [_scores(_fitted(SS4Rec(settings), parts, seed), parts) for seed in (given.seed, given.seed + 1)]
    target = np.searchsorted(parts.catalogue, parts.test.targets)
    ndcg = [per_request(_ranks(s, target), "ndcg", 10) for s in scores]
    spread = float(np.std(ndcg[0] - ndcg[1]))
    baselines = {}
    for model in (Popularity(PopularitySettings()), NCF(NCFSettings())):
        fitted = _fitted(model, parts, given.seed)
        baselines[model.name] = rank_requests(fitted, parts.test, parts.catalogue, mask_seen=True, batch_size=256)
    asked = Requests(parts, scores[0], target, baselines, slices(parts.train, parts.test), 0.0)
    return replace(asked, noise=_noise_of(asked, spread, rng))


def _fitted(model: Recommender, parts: Split, seed: int) -> Recommender:
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True)
    return model


def _scores(model: Recommender, parts: Split) -> FloatArray:
    rows = []
    for start in range(0, len(parts.test), 256):
        batch = parts.test.take(np.arange(start, min(start + 256, len(parts.test))))
        found: FloatArray = model.scores(batch).float().cpu().numpy().copy()
        found[batch.row_of_event, np.searchsorted(parts.catalogue, batch.item_ids)] = -np.inf
        rows.append(found)
    return np.concatenate(rows)


def _ranks(scores: FloatArray, target: IntArray) -> IntArray:
    own = scores[np.arange(len(target)), target][:, None]
    ranks: IntArray = np.where(np.isfinite(own[:, 0]), (scores >= own).sum(axis=1), MISS)
    return ranks


def _noisy(asked: Requests, noise: float, rng: np.random.Generator, rows: IntArray, lift: FloatArray | float = 0.0) -> IntArray:
    """Rank the targets after adding noise to every score and `lift` to the scores of the targets."""
    ranks = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        scores = asked.scores[part] + np.float32(noise) * rng.standard_normal(asked.scores[part].shape, dtype=np.float32)
        own = np.arange(len(part)), asked.target[part]
        scores[own] += lift if np.isscalar(lift) else np.asarray(lift)[start : start + 1024]
        ranks[start : start + 1024] = _ranks(scores, asked.target[part])
    return ranks


def _noise_of(asked: Requests, spread: float, rng: np.random.Generator) -> float:
    """Find the noise that gives two noisy copies the same spread of per-request differences as the two trainings."""
    everyone = np.arange(len(asked))
    low, high = 0.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        pair = [per_request(_noisy(asked, middle, rng, everyone), "ndcg", 10) for _ in range(2)]
        low, high = (middle, high) if float(np.std(pair[0] - pair[1])) < spread else (low, middle)
    return (low + high) / 2


def _lift_of(asked: Requests, gain: float, rng: np.random.Generator, rows: npt.NDArray[np.bool_]) -> float:
    """Find the lift of the targets' scores in `rows` that changes their NDCG@10 by the share `gain` (which may be negative)."""
    chosen = np.flatnonzero(rows)

    def mean(lift: float) -> float:
        return float(np.mean([per_request(_noisy(asked, asked.noise, rng, chosen, lift), "ndcg", 10).mean() for _ in range(20)]))

    wanted = mean(0.0) * (1 + gain)
    low, high = (0.0, 5.0) if gain > 0 else (-5.0, 0.0)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < wanted else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Experiment:
    """A challenger, how it differs from the champion, and what the gate should decide."""

    name: str
    wanted: str
    gain: float = 0.0  # of NDCG@10
    size: int = 0  # requests drawn in each run; 0: all of them, once
    sacrifice: bool = False  # the gain comes with a loss for new users


def _trial(
    experiment: Experiment, asked: Requests, settings: PromotionSettings, rng: np.random.Generator, runs: int
) -> dict[str, Any]:
    new = asked.masks["new users"]
    lift = np.zeros(len(asked), dtype=np.float32)
    if experiment.gain:
        gaining = ~new if experiment.sacrifice else np.ones(len(asked), dtype=bool)
        lift[:] = _lift_of(asked, experiment.gain, rng, gaining)
    if experiment.sacrifice:
        lift[new] = _lift_of(asked, -0.9, rng, new)
    decisions = []
    for _ in range(runs):
        rows = rng.integers(0, len(asked), experiment.size) if experiment.size else np.arange(len(asked))
        champion = _noisy(asked, asked.noise, rng, rows)
        challenger = _noisy(asked, asked.noise, rng, rows, lift[rows])
        decisions.append(_decide(asked, rows, challenger, champion, settings))
    return _counted(experiment.name, decisions, experiment.wanted)


def _clone(asked: Requests, settings: PromotionSettings) -> dict[str, Any]:
    everyone = np.arange(len(asked))
    popularity = asked.baselines["popularity"].ranks
    return _counted("popularity clone", [_decide(asked, everyone, popularity, None, settings)], "held")


def _decide(
    asked: Requests, rows: IntArray, challenger: IntArray, champion: IntArray | None, settings: PromotionSettings
) -> Decision:
    test, catalogue = asked.parts.test, asked.parts.catalogue
    nothing = np.zeros((len(rows), 0), dtype=np.int32)

    def ranking(ranks: IntArray) -> Ranking:
        return Ranking(test.user_ids[rows], test.targets[rows], ranks, catalogue, nothing)

    inputs = GateInputs(
        model_name="trial",
        dataset="trial",
        protocol=asked.parts.id,
        challenger=Challenger("challenger", ranking(challenger), BEYOND, WORKS),
        baselines={name: ranking(found.ranks[rows]) for name, found in asked.baselines.items()},
        champion=None if champion is None else Champion("champion", 1, ranking(champion)),
        slices={name: mask[rows] for name, mask in asked.masks.items()},
    )
    return decide(inputs, settings)


def _counted(name: str, decisions: list[Decision], wanted: str) -> dict[str, Any]:
    promoted = sum(decision.outcome == "promoted" for decision in decisions)
    failed = Counter(rule.name for decision in decisions for rule in decision.rules if rule.verdict == "failed")
    gains = [d.metrics["challenger"]["ndcg@10"] / d.metrics["champion"]["ndcg@10"] - 1 for d in decisions if d.champion]
    trial = {
        "name": name,
        "requests": decisions[0].requests,
        "runs": len(decisions),
        "promoted": promoted,
        "interval": _wilson(promoted, len(decisions)),
        "wanted": wanted,
        "mean_gain": float(np.mean(gains)) if gains else None,
        "detectable_difference": decisions[0].detectable_difference,
        "failed_rules": dict(failed.most_common()),
    }
    print(f"{name}, {decisions[0].requests} requests: promoted {promoted} of {len(decisions)}; {dict(failed)}", flush=True)
    return trial


def _wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, hits / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


if __name__ == "__main__":
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    main()
