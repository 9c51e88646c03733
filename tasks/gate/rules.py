"""The gate: is the challenger good enough to serve, and better than the champion?

Challenger and champion are ranked on the same requests in the same run; stored metrics are never compared. Every rule
adds its figure, threshold and verdict to one decision record.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from configs.errors import GateError
from configs.settings import PromotionSettings
from models.evaluation import MISS, PairedTest, Ranking, confidence_intervals, metrics, paired_test, per_request_metrics
from tasks.evaluation import LoadCheck
from tasks.gate.comparison_rules import compare_with_champions, test_rule
from tasks.gate.decision import ANSWERS, BEATS, CHAMPION_RANKED, GROUPS, Decision, Outcome, Rule, Verdict
from tasks.gate.inputs import Challenger, GateInputs, UnrankedInputs, ndcg
from tasks.gate.load_rules import load_rules

__all__ = ["decide", "health_rules", "hold_unranked"]

RECORD_TOLERANCE = 0.01  # share of requests


def decide(inputs: GateInputs, settings: PromotionSettings) -> Decision:
    """Apply every rule to the challenger. Groups 2 and 3 do not apply to a first model, because there is no champion to beat.

    Raises:
        GateError: The rankings are not of the same requests, or the ranking of a configured baseline is missing.
    """
    _refuse_other_requests(inputs)
    challenger, champion = inputs.challenger, inputs.champion
    tests: dict[str, PairedTest] = {}
    rules = [_enough_requests(inputs, settings), *_floors(inputs, settings), *_against_baselines(inputs, settings, tests)]
    found = compare_with_champions(inputs, settings)
    tests |= found.tests
    rules += found.rules
    rules += [
        *health_rules(challenger, settings),
        *_rating_rules(challenger, settings),
        *load_rules(challenger.load_check, settings),
        *_record_rules(challenger),
    ]
    failed = [rule.detail for rule in rules if rule.verdict == "failed"]
    outcome: Outcome = "held" if failed else "needs approval" if settings.approval == "manual" else "promoted"
    rankings = {"challenger": challenger.ranking, **inputs.baselines, **({"champion": champion.ranking} if champion else {})}
    found_metrics = {name: metrics(ranking.ranks, (10,)) for name, ranking in rankings.items()}
    found_metrics["challenger"] |= challenger.ratings.metrics
    return Decision(
        outcome=outcome,
        reasons=failed,
        model_name=inputs.model_name,
        challenger=challenger.version,
        champion=champion.version if champion else None,
        champion_number=champion.number if champion else 0,
        dataset=inputs.dataset,
        protocol=inputs.protocol,
        requests=len(challenger.ranking.ranks),
        metrics=found_metrics,
        rules=rules,
        intervals={
            name: confidence_intervals(
                per_request_metrics(ranking.ranks, (10,)), resamples=settings.resamples, seed=settings.bootstrap_seed
            )
            for name, ranking in rankings.items()
        },
        tests={name: asdict(test) for name, test in tests.items()},
        comparisons=found.comparisons,
        differences=found.differences,
        detectable_difference=found.comparisons[0].detectable if found.comparisons else None,
        served_window=challenger.served_window,
        settings=settings.model_dump(mode="json"),
        warnings=[*found.warnings, *inputs.collapses, *_too_many_decisions(inputs, settings)],
        level=settings.level if champion else None,
        training_noise=inputs.noise.relative if champion else None,
        past_retrainings=inputs.noise.retrainings,
        fresh_requests=champion.fresh if champion else None,
        excluded_requests=int((~inputs.fair).sum()),
        anchor=inputs.anchor.version if inputs.anchor else None,
        margin_from=_margin_from(inputs, found.better),
    )


def hold_unranked(inputs: UnrankedInputs, settings: PromotionSettings) -> Decision:
    """Hold a version without ranks. The rules that need ranks are not judged.

    If the machine cut off the check of the stored version, the version itself is not judged.
    """
    detail = (
        "The stored version could not be ranked."
        if inputs.champion_fault is None
        else "The champion could not be ranked, so the rules that need ranks are not judged."
    )
    rules = [Rule(group, GROUPS[group], None, None, "", "not judged", detail) for group in (1, 2, 3)]
    if inputs.champion_fault is not None:
        said = (
            f"The champion {inputs.champion} cannot be ranked. {inputs.champion_fault} Only a forced promotion can make "
            f"{inputs.challenger} champion."
        )
        rules.append(Rule(2, CHAMPION_RANKED, None, None, "", "failed", said))
    rules += [_finite_weights_rule(inputs.load_check), *load_rules(inputs.load_check, settings)]
    unchecked = [rule for rule in rules if rule.name == ANSWERS and rule.verdict == "not judged"]
    return Decision(
        outcome="not judged" if unchecked else "held",
        reasons=[rule.detail for rule in unchecked or [rule for rule in rules if rule.verdict == "failed"]],
        model_name=inputs.model_name,
        challenger=inputs.challenger,
        champion=inputs.champion,
        champion_number=inputs.champion_number,
        dataset=inputs.dataset,
        protocol=inputs.protocol,
        requests=inputs.requests,
        metrics={},
        rules=rules,
        settings=settings.model_dump(mode="json"),
    )


def _refuse_other_requests(inputs: GateInputs) -> None:
    ours = inputs.challenger.ranking
    others = {**inputs.baselines, **({"the champion": inputs.champion.ranking} if inputs.champion else {})}
    for opponent in (inputs.anchor, inputs.margin_from):
        if opponent is not None and opponent.ranking is not None:
            others[f"the earlier champion {opponent.version}"] = opponent.ranking
    if inputs.challenger.recorded is not None:
        others["its own record"] = inputs.challenger.recorded
    for name, ranking in others.items():
        same = np.array_equal(ours.user_ids, ranking.user_ids) and np.array_equal(ours.targets, ranking.targets)
        if not same or len(ranking.ranks) != len(ours.ranks):
            raise GateError(
                f"The challenger and {name} were ranked on different requests, so they cannot be compared. Rank both on the "
                "same split of the same dataset version."
            )


def _enough_requests(inputs: GateInputs, settings: PromotionSettings) -> Rule:
    count, least = int(inputs.fair.sum()), settings.min_requests
    detail = f"There are {count} requests to judge on; promotion.min_requests asks for {least}."
    if count < least:
        detail += f" On so few, a gain that is found is most likely luck: collect the events of {least - count} more users."
    return _at_least(1, "enough requests", float(count), float(least), detail)


def _margin_from(inputs: GateInputs, better: bool) -> str:
    """Return the version that the margin of a later decision counts from if this challenger is promoted."""
    if better or inputs.champion is None:
        return inputs.challenger.version
    return (inputs.margin_from or inputs.champion).version


def _too_many_decisions(inputs: GateInputs, settings: PromotionSettings) -> list[str]:
    """Warn if more versions are judged in a year than the significance level is divided by."""
    if inputs.champion is None or inputs.decisions < settings.decisions_per_year:
        return []
    return [
        f"{inputs.decisions + 1} versions were judged in the past year, but promotion.decisions_per_year is "
        f"{settings.decisions_per_year}, so a promotion by luck is likelier than alpha says. Raise it."
    ]


def _floors(inputs: GateInputs, settings: PromotionSettings) -> list[Rule]:
    found = metrics(inputs.challenger.ranking.ranks, (10,))
    return [
        _at_least(1, f"{name} floor", found[name], floor, f"{name} is {found[name]:.4f}; the floor is {floor:.4f}.")
        for name, floor in settings.floors.at(len(inputs.challenger.ranking.catalogue)).items()
    ]


def _against_baselines(inputs: GateInputs, settings: PromotionSettings, tests: dict[str, PairedTest]) -> list[Rule]:
    rules = []
    for name in inputs.baselines if settings.baselines is None else settings.baselines:
        if name not in inputs.baselines:
            raise GateError(
                f"promotion.baselines names {name}, which this run did not train. Train it, or remove it from the list."
            )
        test = paired_test(
            ndcg(inputs.challenger.ranking),
            ndcg(inputs.baselines[name]),
            resamples=settings.resamples,
            seed=settings.bootstrap_seed,
        )
        tests[name] = test
        rules.append(
            test_rule(1, f"{BEATS}{name}", test, settings.alpha, f"NDCG@10 {test.mean_a:.4f} against {name}'s {test.mean_b:.4f}")
        )
    return rules


def _at_least(group: int, name: str, figure: float, threshold: float, detail: str) -> Rule:
    """Require that `figure` is at least `threshold`."""
    # Written so that NaN fails: every comparison with NaN is false.
    return Rule(group, name, figure, threshold, ">=", "passed" if figure >= threshold else "failed", detail)


def health_rules(challenger: Challenger, settings: PromotionSettings) -> list[Rule]:
    """Check the weights, the training, and how the recommendations spread over the catalogue."""
    coverage, gini = challenger.beyond_accuracy["coverage@10"], challenger.beyond_accuracy["gini@10"]
    ranking = challenger.ranking
    least = settings.least_coverage(len(ranking.catalogue), 10 * len(ranking.ranks))
    most = settings.most_gini(challenger.gini_of_events)
    return [
        _finite_weights_rule(challenger.load_check),
        _known_targets(challenger.ranking, settings),
        Rule(
            4, "the training did not collapse", float(not challenger.collapsed), 1.0, "==", "failed" if challenger.collapsed else "passed",
            challenger.collapsed or "The training learnt more than popularity.",
        ),
        _at_least(
            4, "coverage@10", coverage, least,
            f"{coverage:.1%} of the catalogue appears in a top 10; the minimum is {least:.1%}.",
        ),
        Rule(
            4, "gini@10", gini, most, "<=", "passed" if gini <= most else "failed",
            f"The Gini index of recommendation counts is {gini:.3f}; the maximum is {most:.{4 if most > 0.99 else 3}f}.",
        ),
    ]  # fmt: skip


def _rating_rules(challenger: Challenger, settings: PromotionSettings) -> list[Rule]:
    """Check the error of predicted ratings, if a setting asks for it."""
    most, found = settings.max_rmse, challenger.ratings.metrics.get("rmse")
    if most is None:
        return []
    if found is None:
        said = (
            f"promotion.max_rmse is {most:g}, but the challenger predicts no ratings, or the requests have none: turn on the rating_head "
            "of its kind, or leave promotion.max_rmse empty."
        )
        return [Rule(4, "RMSE of ratings", None, most, "<=", "failed", said)]
    said = f"Predicted ratings have an RMSE of {found:.4f}; the maximum is {most:g}."
    return [Rule(4, "RMSE of ratings", found, most, "<=", "passed" if found <= most else "failed", said)]


def _finite_weights_rule(check: LoadCheck) -> Rule:
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
    return _at_least(4, "knows the targets", share, least, detail)


def _record_rules(challenger: Challenger) -> list[Rule]:
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
