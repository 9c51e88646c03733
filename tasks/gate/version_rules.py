"""The rules about the challenger alone: its health (group 4), and what is stored of it (group 5)."""

from __future__ import annotations

import numpy as np

from configs.settings import PromotionSettings
from models.evaluation import MISS, Ranking
from tasks.evaluation import LoadCheck
from tasks.gate.decision import Rule, Verdict
from tasks.gate.inputs import Challenger, ndcg

__all__ = ["at_least", "finite_weights_rule", "health_rules", "record_rules"]

RECORD_TOLERANCE = 0.01  # share of requests


def at_least(group: int, name: str, figure: float, threshold: float, detail: str) -> Rule:
    """Require that `figure` is at least `threshold`."""
    # Written so that NaN fails: every comparison with NaN is false.
    return Rule(group, name, figure, threshold, ">=", "passed" if figure >= threshold else "failed", detail)


def health_rules(challenger: Challenger, settings: PromotionSettings) -> list[Rule]:
    """Check the weights, the training, and how the recommendations spread over the catalogue."""
    coverage, gini = challenger.beyond_accuracy["coverage@10"], challenger.beyond_accuracy["gini@10"]
    ranking, steps = challenger.ranking, challenger.nonfinite_steps
    least = settings.least_coverage(len(ranking.catalogue), 10 * len(ranking.ranks))
    most = settings.most_gini(challenger.gini_of_events)
    return [
        finite_weights_rule(challenger.load_check),
        _known_targets(challenger.ranking, settings),
        Rule(
            4, "non-finite training steps", float(steps), 0.0, "==", "passed" if steps == 0 else "failed",
            f"{steps} training steps had a non-finite loss or gradient.",
        ),
        Rule(
            4, "the training did not collapse", float(not challenger.collapsed), 1.0, "==", "failed" if challenger.collapsed else "passed",
            challenger.collapsed or "The training learnt more than popularity.",
        ),
        at_least(
            4, "coverage@10", coverage, least,
            f"{coverage:.1%} of the catalogue appears in a top 10; the minimum is {least:.1%}.",
        ),
        Rule(
            4, "gini@10", gini, most, "<=", "passed" if gini <= most else "failed",
            f"The Gini index of recommendation counts is {gini:.3f}; the maximum is {most:.{4 if most > 0.99 else 3}f}.",
        ),
    ]  # fmt: skip


def finite_weights_rule(check: LoadCheck) -> Rule:
    """Check that all stored weights are finite."""
    finite = check.finite_weights
    if finite is None:
        return Rule(4, "finite weights", None, None, "", "not judged", "The stored weights were not read.")
    detail = "All stored weights are finite." if finite else "Stored weights are not finite or could not be read."
    return Rule(4, "finite weights", float(finite), 1.0, "==", "passed" if finite else "failed", detail)


def _known_targets(ranking: Ranking, settings: PromotionSettings) -> Rule:
    ranks = ranking.ranks[np.isin(ranking.targets, ranking.catalogue)]
    unknown, least = int((ranks == MISS).sum()), settings.min_known_targets
    share = 1 - unknown / len(ranks) if len(ranks) else 1.0
    detail = (
        f"{unknown} of {len(ranks)} targets are items of the catalogue that are missing from the model's vocabulary, so it can "
        f"never recommend them. The minimum share of known targets is {least:.1%}."
    )
    return at_least(4, "knows the targets", share, least, detail)


def record_rules(challenger: Challenger) -> list[Rule]:
    """Check that the stored weights reproduce the stored ranks, except near-ties, which another CPU may break differently."""
    if challenger.recorded is None:
        return []
    share = float((ndcg(challenger.ranking) != ndcg(challenger.recorded)).mean())
    verdict: Verdict = "passed" if share <= RECORD_TOLERANCE else "failed"
    detail = (
        f"For {share:.1%} of the requests, the stored weights give the target another rank than the stored ranks; the maximum is "
        f"{RECORD_TOLERANCE:.1%}."
    )
    if verdict == "failed":
        detail += " Weights and ranks come from different models, or were edited."
    return [Rule(5, "ranks as recorded", share, RECORD_TOLERANCE, "<=", verdict, detail)]
