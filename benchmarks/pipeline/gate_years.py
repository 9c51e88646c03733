"""How the level of a decision adds up over a year of retrainings: `python -m benchmarks.pipeline.gate_years`.

Simulated years of weekly retrainings of one recipe, so that a promotion is luck. The figures are those of MovieLens 100K: 943
requests, a standard deviation of .143 between two models on a request, an NDCG@10 of .13, and 84 % of the requests the same from one
week to the next. The quality of a training varies by its seed. Means over requests are drawn from their normal distribution, which
makes thousands of years cheap. `benchmarks.pipeline.gate` judges real retrainings.

The schemes differ by the level of a decision, and by whether the test allows for the luck of a training: by the true one, by the
default setting, or by the setting corrected by the retrainings of the year so far. Power is the share of
recipes that are better by a given share and are promoted at the first retraining, within 4, and within 12.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import hardware, write_result
from configs.settings import PromotionSettings
from infra.pages import markdown_table
from tasks.gate.opponents import MOST_RETRAININGS, noise_variance

FloatArray = npt.NDArray[np.float64]
REQUESTS, PAIRED_SD, NDCG, SAME = 943, 0.143, 0.13, 0.84
WEEKS, ANCHOR_WEEKS = 52, 13
LOOKS = (1, 4, 12)
OWN_SD = PAIRED_SD / np.sqrt(2 * REQUESTS)  # of one model's mean over the requests


@dataclass(frozen=True)
class Scheme:
    """How a year's decisions share the significance level."""

    name: str
    level: float
    noise: float | None  # that the test allows for, as a share of NDCG@10; None: the true one
    learns: bool = False  # correct the noise by the year's earlier retrainings, as the gate does


def schemes(settings: PromotionSettings) -> list[Scheme]:
    """The scheme of the gate, and simpler ones."""
    alpha, per_year = settings.alpha, settings.decisions_per_year
    return [
        Scheme("alpha at each decision, users only", alpha, 0.0),
        Scheme("alpha at each decision, users and training", alpha, None),
        Scheme("alpha / decisions, users only", alpha / per_year, 0.0),
        Scheme("alpha / 12, users and training", alpha / 12, None),
        Scheme("alpha / decisions, users and training", alpha / per_year, None),
        Scheme("the same, with the default training_noise", alpha / per_year, settings.training_noise),
        Scheme("the gate: the same, corrected by past retrainings", alpha / per_year, settings.training_noise, learns=True),
    ]


def main() -> None:
    """Simulate, write the shares and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=20_000, help="simulated years of each scheme")
    parser.add_argument("--seed-sds", nargs="+", type=float, default=[0.0031, 0.0035, 0.007], help="of NDCG@10 between trainings")
    parser.add_argument("--gains", nargs="+", type=float, default=[0.05, 0.10, 0.20])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gate_years.json"))
    given = parser.parse_args()
    settings = PromotionSettings()
    rows = [
        _row(scheme, sd, given, settings.alpha, np.random.default_rng(given.seed))
        for sd in given.seed_sds
        for scheme in schemes(settings)
    ]
    result = {"hardware": hardware(), "years": given.years, "seed": given.seed, "gains": given.gains, "rows": rows}
    write_result(given.out, result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the rows as a Markdown table."""
    head = ["training noise", "scheme", "decisions wrong", "years with one", "quality after a year: mean", "worst 1 %"]
    head += [f"+{gain:.0%}: first / 4 / 12" for gain in result["gains"]]
    lines = []
    for row in result["rows"]:
        power = [" / ".join(f"{share:.0%}" for share in row["power"][str(gain)]) for gain in result["gains"]]
        cells = [f"{row['decisions']:.2%}", f"{row['any']:.1%}", f"{row['mean_change']:+.1%}", f"{row['worst']:+.1%}"]
        lines.append([f"{row['seed_sd'] / NDCG:.1%}", row["scheme"], *cells, *power])
    return markdown_table(head, lines)


def _row(scheme: Scheme, seed_sd: float, given: argparse.Namespace, alpha: float, rng: np.random.Generator) -> dict[str, Any]:
    promoted, change = simulated(scheme, seed_sd, given.years, WEEKS, alpha, rng)
    power = {}
    for gain in given.gains:
        better, _ = simulated(scheme, seed_sd, given.years // 4, max(LOOKS), alpha, rng, gain)
        power[str(gain)] = [float(better[:weeks].any(axis=0).mean()) for weeks in LOOKS]
    return {
        "scheme": scheme.name,
        "seed_sd": seed_sd,
        "decisions": float(promoted.mean()),
        "any": float(promoted.any(axis=0).mean()),
        "promotions": float(promoted.sum(axis=0).mean()),
        "mean_change": float(change.mean()),
        "worst": float(np.quantile(change, 0.01)),
        "power": power,
    }


def simulated(
    scheme: Scheme, seed_sd: float, years: int, weeks: int, alpha: float, rng: np.random.Generator, gain: float = 0.0
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Simulate weekly retrainings.

    Args:
        scheme: How the decisions are made.
        seed_sd: Standard deviation of NDCG@10 between trainings.
        years: Number of simulated years, Y.
        weeks: Weeks of a year, W.
        alpha: Level of the comparison with the champion of a quarter ago.
        rng: Source of random numbers.
        gain: By how much the retrained recipe is better than the first champion's, as a share of NDCG@10.

    Returns:
        Whether each retraining was promoted, (W, Y), and the change of the champion's true quality as a share, (Y,).
    """
    noise = np.full(years, seed_sd if scheme.noise is None else scheme.noise * NDCG)
    squares, before = np.zeros((0, years)), np.zeros(years)  # the first retraining of a recipe has none before it
    required = NormalDist().inv_cdf(1 - scheme.level)
    shown_worse = NormalDist().inv_cdf(1 - alpha) * np.sqrt(2) * OWN_SD
    quality, luck = rng.normal(0, seed_sd, years), rng.normal(0, OWN_SD, years)
    first, reigns = quality, [(quality, luck)]
    promoted = np.zeros((weeks, years), dtype=bool)
    for week in range(weeks):
        luck = _refreshed(luck, SAME, rng)
        new_quality, new_luck = rng.normal(gain * NDCG, seed_sd, years), rng.normal(0, OWN_SD, years)
        new = new_quality + new_luck
        promoted[week] = new - quality - luck > required * np.sqrt(2 * OWN_SD**2 + 2 * noise**2)
        if scheme.learns and scheme.noise is not None and week:
            squares = np.vstack([squares, (new - before) ** 2])[1 - MOST_RETRAININGS :]
            errors = np.full_like(squares, 2 * OWN_SD**2)
            noise = np.sqrt(noise_variance((scheme.noise * NDCG) ** 2, squares, errors))
        before = new
        if week >= ANCHOR_WEEKS:
            old_quality, old_luck = reigns[week - ANCHOR_WEEKS]
            promoted[week] &= old_quality + _refreshed(old_luck, SAME**ANCHOR_WEEKS, rng) - new <= shown_worse
        quality, luck = np.where(promoted[week], new_quality, quality), np.where(promoted[week], new_luck, luck)
        reigns.append((quality, luck))
    return promoted, (quality - first) / NDCG


def _refreshed(luck: FloatArray, same: float, rng: np.random.Generator) -> FloatArray:
    """Return a mean over requests of which the share `same` is still there."""
    return same * luck + rng.normal(0, OWN_SD * np.sqrt(1 - same**2), len(luck))


if __name__ == "__main__":
    main()
