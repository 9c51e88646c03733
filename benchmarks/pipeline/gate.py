"""How often the gate makes a wrong decision: `python -m benchmarks.pipeline.gate --seeds .recsys/retrainings/seeds.npz`.

The file holds real retrainings of the default recipe that differ by their seed only (`benchmarks.ranking.retrainings` makes it).
Nothing stands in for them. The trials:

- Another seed: every ordered pair of trainings as challenger and champion. A promotion is luck, and wrong.
- A better recipe: the scores of the challenger's targets are raised until NDCG@10, averaged over the trainings, is higher by a
  given share. A promotion is right. Larger holdouts are the same requests drawn with replacement.
- A sacrifice: the challenger loses a given share on the users with the shortest histories, and gains a half on all others.
- A popularity clone: the challenger is the popularity baseline.
- A year: 52 retrainings, each another seed, against the champion of the time. Each week some of the requests are drawn again. Only
  the comparisons with the champion and with the one of a quarter ago are made. The noise of training is the setting, corrected by
  the year's earlier retrainings as the gate does it. In years of a better recipe, the power is the share of years in which it is
  promoted at the first retraining, within 4, and within 12.

The real gate makes every decision, with its default settings except for the number of resamples. The check of the stored version
and the spread of the recommendations are taken as passed.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.pipeline.gate_years import ANCHOR_WEEKS, LOOKS, SAME, WEEKS
from benchmarks.report import hardware, skip, write_result
from configs.settings import PromotionSettings
from infra.pages import markdown_table
from models.evaluation import MISS, FloatArray, Ranking, paired_test, per_request
from models.recommender import IntArray
from tasks.evaluation import LoadCheck
from tasks.gate import Decision
from tasks.gate.inputs import Challenger, Champion, GateInputs, TrainingNoise
from tasks.gate.opponents import MOST_RETRAININGS, noise_variance
from tasks.gate.rules import decide

Mask = npt.NDArray[np.bool_]
SHORTEST, OTHERS_GAIN = 0.15, 0.5  # share of users who are sacrificed, and what the others gain
WORKS = LoadCheck(True, 0.1, 0.01, 0.0, True, "")  # the check of the stored version is not under test here
BEYOND = {"coverage@10": 0.5, "gini@10": 0.8}
MARGIN_Z = 0.7  # a comparison that is as much below its bound is not significant, whatever the tails are


@dataclass(frozen=True, eq=False)
class Trainings:
    """The ranks of S trainings on the same R requests."""

    ranks: IntArray  # (S, R)
    gaps: npt.NDArray[np.float32]  # (S, R, 10) highest scores of other items less the target's, highest first
    baselines: dict[str, IntArray]  # (R,) ranks
    slices: dict[str, Mask]
    sacrificed: Mask  # (R,)

    def __len__(self) -> int:
        return len(self.ranks)

    @property
    def requests(self) -> int:
        return int(self.ranks.shape[1])

    def lifted(self, lift: FloatArray) -> IntArray:
        """Return the ranks (S, R) after adding `lift` (R,) to the score of each target."""
        above = (self.gaps >= lift[None, :, None]).sum(axis=2)
        known = np.isfinite(self.gaps).any(axis=2) & (self.ranks != MISS)
        return np.where(known & (above < self.gaps.shape[2]), above + 1, MISS)


def main() -> None:
    """Run the trials, write the counts and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=Path, default=Path(".recsys/retrainings/seeds.npz"), help="file of the retrainings")
    parser.add_argument("--file", default="ml-100k, as published", help="name of the file of the data, for the result")
    parser.add_argument("--runs", type=int, default=100, help="decisions per trial")
    parser.add_argument("--gains", nargs="+", type=float, default=[0.05, 0.10, 0.20])
    parser.add_argument("--losses", nargs="+", type=float, default=[0.15, 0.20, 0.30, 0.50])
    parser.add_argument("--holdouts", nargs="+", type=int, default=[0, 6040], help="requests; 0 is the data's own holdout")
    parser.add_argument("--resamples", type=int, default=1500)
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1, help="number of processes that live through the years")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gate.json"))
    given = parser.parse_args()
    if not given.seeds.exists():
        skip(f"there is no {given.seeds}; `python -m benchmarks.ranking.retrainings` makes it.")
    found, settings = _read(given.seeds), PromotionSettings(resamples=given.resamples)
    noise = measured_noise(per_request(found.ranks, "ndcg", 10))
    print(f"{len(found)} trainings: their NDCG@10 has a standard deviation of {noise:.1%} beyond that of users", flush=True)
    result = {
        "data": "ml-100k",
        "file": given.file,
        "protocol": "loo-exact",
        "hardware": hardware(),
        "trainings": len(found),
        "requests": found.requests,
        "mean_ndcg": float(per_request(found.ranks, "ndcg", 10).mean()),
        "observed_sd": float(per_request(found.ranks, "ndcg", 10).mean(axis=1).std(ddof=1)),
        "training_noise": noise,
        "assumed_noise": settings.training_noise,
        "resamples": given.resamples,
        "seed": given.seed,
        "trials": _trials(given, found, settings, np.random.default_rng(given.seed)),
        "years": _years(given, found, settings, np.random.default_rng(given.seed)),
    }
    write_result(given.out, result)
    print(render(result), render_years(result), sep="\n\n")


def measured_noise(values: FloatArray) -> float:
    """Return the standard deviation of a training's true NDCG@10, as a share of it.

    Two trainings differ on a holdout also because each request is ranked a little differently. That part is subtracted: the test
    over requests knows it already.

    Args:
        values: NDCG@10 of S trainings on R requests, (S, R).
    """
    excess = []
    for one in range(len(values)):
        for other in range(one):
            differences = values[one] - values[other]
            excess.append(differences.mean() ** 2 - differences.var(ddof=1) / len(differences))
    return math.sqrt(max(0.0, float(np.mean(excess)) / 2)) / float(values.mean())


def render(result: dict[str, Any]) -> str:
    """Return the trials as a Markdown table."""
    rows = []
    for trial in result["trials"]:
        low, high = trial["interval"]
        held = ", ".join(f"{name} {count}" for name, count in list(trial["failed_rules"].items())[:3])
        share = f"{trial['promoted'] / trial['runs']:.1%}"
        counts = [f"{trial['requests']:,}", str(trial["runs"]), share, f"{low:.1%} to {high:.1%}"]
        rows.append([trial["name"], *counts, trial["wanted"], held])
    head = ["trial", "requests", "decisions", "promoted", "95 % interval", "must be", "rules that held it"]
    return markdown_table(head, rows)


def render_years(result: dict[str, Any]) -> str:
    """Return the years as a Markdown table."""
    rows = []
    for row in result["years"]:
        power = [" / ".join(f"{share:.0%}" for share in shares) for shares in row["power"].values()]
        low, high = row["interval"]
        cells = [f"{row['decisions']:.2%}", f"{row['any']:.1%} ({low:.1%} to {high:.1%})", f"{row['worst']:+.1%}"]
        rows.append([row["scheme"], str(row["years"]), *cells, *power])
    gains = [f"+{float(gain):.0%}: first / 4 / 12" for gain in result["years"][0]["power"]]
    return markdown_table(["scheme", "years", "decisions wrong", "years with one", "worst 1 % of years", *gains], rows)


def _read(path: Path) -> Trainings:
    stored = np.load(path)
    lengths = stored["lengths"][0]
    sacrificed = np.zeros(len(lengths), dtype=bool)
    sacrificed[np.argsort(lengths, kind="stable")[: int(SHORTEST * len(lengths))]] = True
    slices = {name.removeprefix("slice "): stored[name][0] for name in stored if name.startswith("slice ")}
    return Trainings(
        ranks=stored["ranks"],
        gaps=stored["gaps"],
        baselines={name: stored[f"{name} ranks"][0] for name in ("popularity", "ncf")},
        # The release has no users with ten events or fewer. Those with the fewest stand for them.
        slices={**slices, "new users": sacrificed},
        sacrificed=sacrificed,
    )


def _lift_of(found: Trainings, gain: float, where: Mask) -> float:
    """Find what to add to the targets' scores in `where` so that their mean NDCG@10 changes by the share `gain`."""
    low, high = (0.0, 8.0) if gain > 0 else (-8.0, 0.0)
    wanted = float(per_request(found.ranks[:, where], "ndcg", 10).mean()) * (1 + gain)
    for _ in range(20):
        middle = (low + high) / 2
        mean = float(per_request(found.lifted(np.where(where, middle, 0.0))[:, where], "ndcg", 10).mean())
        low, high = (middle, high) if mean < wanted else (low, middle)
    return (low + high) / 2


def _trials(
    given: argparse.Namespace, found: Trainings, settings: PromotionSettings, rng: np.random.Generator
) -> list[dict[str, Any]]:
    everyone = np.ones(found.requests, dtype=bool)
    pairs = [(new, old) for new in range(len(found)) for old in range(len(found)) if new != old]

    def some() -> list[tuple[int, int]]:
        return [pairs[place] for place in rng.integers(0, len(pairs), given.runs)]

    def judged(ranks: IntArray, chosen: list[tuple[int, int]], size: int = 0) -> list[Decision | None]:
        decisions: list[Decision | None] = []
        for new, old in chosen:
            rows = rng.integers(0, found.requests, size) if size else np.arange(found.requests)
            pair = [per_request(found_ranks[rows], "ndcg", 10) for found_ranks in (ranks[new], found.ranks[old])]
            # A challenger that is not better is held whatever the other rules say, so the gate need not be asked.
            better = _higher(pair[0], pair[1], settings.level, settings, settings.training_noise)
            decisions.append(_decide(found, rows, ranks[new], found.ranks[old], settings) if better else None)
        return decisions

    trials = [_counted("another seed, every ordered pair", judged(found.ranks, pairs), "held", found.requests)]
    for size in given.holdouts:
        for gain in given.gains:
            better = found.lifted(np.full(found.requests, _lift_of(found, gain, everyone)))
            drawn = ", drawn again" if size else ""
            trials.append(
                _counted(f"NDCG@10 higher by {gain:.0%}{drawn}", judged(better, some(), size), "promoted", size or found.requests)
            )
    for loss in given.losses:
        lift = np.where(
            found.sacrificed,
            _lift_of(found, -loss, found.sacrificed),
            _lift_of(found, OTHERS_GAIN, ~found.sacrificed),
        )
        name = f"new users lose {loss:.0%}, others gain {OTHERS_GAIN:.0%}"
        trials.append(_counted(name, judged(found.lifted(lift), some()), "held", found.requests))
    clone = _decide(found, np.arange(found.requests), found.baselines["popularity"], None, settings)
    return [*trials, _counted("popularity clone", [clone], "held", found.requests)]


def _decide(
    found: Trainings, rows: IntArray, challenger: IntArray, champion: IntArray | None, settings: PromotionSettings
) -> Decision:
    nothing, catalogue = np.zeros((len(rows), 0), dtype=np.int32), np.zeros(0, dtype=np.int64)

    def ranking(ranks: IntArray) -> Ranking:
        return Ranking(rows, rows, ranks[rows], catalogue, nothing)

    inputs = GateInputs(
        model_name="trial",
        dataset="trial",
        protocol="loo-exact",
        challenger=Challenger("challenger", ranking(challenger), BEYOND, WORKS),
        baselines={name: ranking(ranks) for name, ranks in found.baselines.items()},
        champion=None if champion is None else Champion("champion", 1, ranking(champion)),
        slices={name: mask[rows] for name, mask in found.slices.items()},
        noise=TrainingNoise(settings.training_noise),
    )
    return decide(inputs, settings)


def _counted(name: str, decisions: list[Decision | None], wanted: str, requests: int) -> dict[str, Any]:
    """Count the decisions. None is one that was held because the challenger is not better."""
    asked = [decision for decision in decisions if decision is not None]
    promoted = sum(decision.outcome == "promoted" for decision in asked)
    failed = Counter(rule.name for decision in asked for rule in decision.rules if rule.verdict == "failed")
    if len(asked) < len(decisions):
        failed["better than the champion"] += len(decisions) - len(asked)
    trial = {
        "name": name,
        "requests": requests,
        "runs": len(decisions),
        "promoted": promoted,
        "interval": _wilson(promoted, len(decisions)),
        "wanted": wanted,
        "not_better": len(decisions) - len(asked),
        "failed_rules": dict(failed.most_common()),
    }
    print(f"{name}, {requests} requests: promoted {promoted} of {len(decisions)}; {dict(failed)}", flush=True)
    return trial


def _years(
    given: argparse.Namespace, found: Trainings, settings: PromotionSettings, rng: np.random.Generator
) -> list[dict[str, Any]]:
    alone = settings.model_copy(update={"decisions_per_year": 1, "training_noise": 0.0})
    everyone = np.ones(found.requests, dtype=bool)
    old = per_request(found.ranks, "ndcg", 10)
    better = {
        gain: per_request(found.lifted(np.full(found.requests, _lift_of(found, gain, everyone))), "ndcg", 10)
        for gain in given.gains
    }
    rows = []
    with ProcessPoolExecutor(given.workers) as pool:

        def lived(new: FloatArray, chosen: PromotionSettings, weeks: int) -> list[tuple[list[bool], float]]:
            streams = rng.spawn(given.years)  # each year has its own, so the number of processes changes nothing
            shared = [[each] * given.years for each in (new, old, chosen, weeks)]
            return list(pool.map(_year, *shared, streams, chunksize=5))

        for name, chosen in (("alpha at each decision, users only", alone), ("the gate", settings)):
            same = lived(old, chosen, WEEKS)
            changes, wrong = np.array([change for _, change in same]), sum(any(promoted) for promoted, _ in same)
            power = {}
            for gain, values in better.items():
                tried = [promoted for promoted, _ in lived(values, chosen, max(LOOKS))]
                power[str(gain)] = [float(np.mean([any(promoted[:weeks]) for promoted in tried])) for weeks in LOOKS]
            rows.append(
                {
                    "scheme": name,
                    "years": given.years,
                    "decisions": float(np.mean([promoted for promoted, _ in same])),
                    "any": wrong / given.years,
                    "interval": _wilson(wrong, given.years),
                    "mean_change": float(changes.mean()),
                    "worst": float(np.quantile(changes, 0.01)),
                    "power": power,
                }
            )
            print(f"{name}: {rows[-1]}", flush=True)
    return rows


def _year(
    new: FloatArray, old: FloatArray, settings: PromotionSettings, weeks: int, rng: np.random.Generator
) -> tuple[list[bool], float]:
    """Live through a year of retrainings.

    Args:
        new: NDCG@10 of the challengers by training and request, (S, R).
        old: The same of the first champion's recipe.
        settings: Settings of the gate.
        weeks: Number of retrainings.
        rng: Source of random numbers.

    Returns:
        Whether each retraining was promoted, and the change of the champion's mean over all requests, as a share.
    """
    training = int(rng.integers(len(old)))
    champion, first, reigns, promoted = old[training], float(old[training].mean()), [old[training]], []
    requests = old.shape[1]
    asked = rng.integers(0, requests, size=(requests,))
    past = _Past(settings.training_noise)
    for week in range(weeks):
        again = rng.random(size=(requests,)) > SAME
        asked[again] = rng.integers(0, requests, size=(int(again.sum()),))
        before, training = training, int(rng.choice(np.delete(np.arange(len(new)), training)))
        noise = past.noise()  # the challenger's own retraining is left out
        past.add(new[before][asked[~again]] if week else None, new[training][asked[~again]])
        passes = _higher(new[training][asked], champion[asked], settings.level, settings, noise)
        if passes and week >= ANCHOR_WEEKS:
            passes = not _higher(reigns[week - ANCHOR_WEEKS][asked], new[training][asked], settings.alpha, settings, 0.0)
        promoted.append(passes)
        champion = new[training] if passes else champion
        reigns.append(champion)
    return promoted, float(champion.mean()) / first - 1


class _Past:
    """The retrainings of a year so far, from which the gate corrects the noise of training."""

    def __init__(self, prior: float) -> None:
        self._prior = prior
        self._squares: list[float] = []
        self._errors: list[float] = []

    def add(self, before: FloatArray | None, new: FloatArray) -> None:
        """Compare a retraining with the one before it, if there is one, on the requests that they have in common, (R,)."""
        if before is not None:
            differences, level = before - new, float(np.mean([before.mean(), new.mean()]))
            self._squares.append((float(differences.mean()) / level) ** 2)
            self._errors.append(float(differences.var(ddof=1)) / len(differences) / level**2)

    def noise(self) -> float:
        """Return the standard deviation of a training's NDCG@10, as a share of it."""
        if self._prior == 0:
            return 0.0
        newest = slice(1 - MOST_RETRAININGS, None)
        variance = noise_variance(self._prior**2, np.array(self._squares[newest]), np.array(self._errors[newest]))
        return math.sqrt(float(variance))


def _higher(one: FloatArray, other: FloatArray, level: float, settings: PromotionSettings, noise: float) -> bool:
    """Whether the gate's test shows that `one` is higher. Far from significance, a normal approximation saves the test."""
    luck = noise * float(other.mean()) * math.sqrt(2)
    differences = one - other
    error = math.sqrt(float(differences.var(ddof=1)) / len(differences) + luck**2)
    if float(differences.mean()) < (NormalDist().inv_cdf(1 - level) - MARGIN_Z) * error:
        return False
    test = paired_test(one, other, resamples=settings.resamples, seed=settings.bootstrap_seed, common_sd=luck)
    return test.p_value <= level


def _wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, hits / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


if __name__ == "__main__":
    main()
