"""The gate: is the challenger good enough to serve, and better than the champion?

Challenger and champion are ranked on the same requests in the same run; stored metrics are never compared. Every rule
adds its figure, threshold and verdict to one decision record.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt

from configs.errors import GateError
from configs.settings import PromotionSettings
from models.evaluation import (
    PairedTest,
    confidence_intervals,
    detectable_difference,
    holm,
    metrics,
    paired_bootstrap,
    per_request_metrics,
)
from tasks.gate.decision import (
    ANSWERS,
    CHAMPION_RANKED,
    GROUPS,
    Decision,
    Differences,
    Outcome,
    Rule,
    RuleComparison,
    Verdict,
)
from tasks.gate.inputs import Champion, GateInputs, UnrankedInputs
from tasks.gate.load_rules import load_rules
from tasks.gate.version_rules import at_least, finite_weights_rule, health_rules, ndcg, record_rules

__all__ = ["decide", "hold_unranked"]

BINS = np.linspace(-1, 1, 41)  # of per-request differences


def decide(inputs: GateInputs, settings: PromotionSettings) -> Decision:
    """Apply every rule to the challenger. Groups 2 and 3 do not apply to a first model, because there is no champion to beat.

    Raises:
        GateError: The rankings are not of the same requests, or the ranking of a configured baseline is missing.
    """
    _refuse_other_requests(inputs)
    challenger, champion = inputs.challenger, inputs.champion
    tests: dict[str, PairedTest] = {}
    comparisons: list[RuleComparison] = []
    rules = [*_floors(inputs, settings), *_against_baselines(inputs, settings, tests)]
    rules += [*_against_champion(inputs, settings, tests, comparisons), *_slices(inputs, settings, comparisons)]
    rules += [*health_rules(challenger, settings), *load_rules(challenger.load_check, settings), *record_rules(challenger)]
    failed = [rule.detail for rule in rules if rule.verdict == "failed"]
    outcome: Outcome = "held" if failed else "needs approval" if settings.approval == "manual" else "promoted"
    rankings = {"challenger": challenger.ranking, **inputs.baselines, **({"champion": champion.ranking} if champion else {})}
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
        metrics={name: metrics(ranking.ranks, (10,)) for name, ranking in rankings.items()},
        rules=rules,
        intervals={
            name: confidence_intervals(
                per_request_metrics(ranking.ranks, (10,)), resamples=settings.resamples, seed=settings.bootstrap_seed
            )
            for name, ranking in rankings.items()
        },
        tests={name: asdict(test) for name, test in tests.items()},
        comparisons=comparisons,
        differences=_differences(ndcg(challenger.ranking) - ndcg(champion.ranking)) if champion else None,
        detectable_difference=comparisons[0].detectable if comparisons else None,
        served_window=challenger.served_window,
        settings=settings.model_dump(mode="json"),
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
    rules += [finite_weights_rule(inputs.load_check), *load_rules(inputs.load_check, settings)]
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
    if inputs.challenger.recorded is not None:
        others["its own record"] = inputs.challenger.recorded
    for name, ranking in others.items():
        same = np.array_equal(ours.user_ids, ranking.user_ids) and np.array_equal(ours.targets, ranking.targets)
        if not same or len(ranking.ranks) != len(ours.ranks):
            raise GateError(
                f"The challenger and {name} were ranked on different requests, so they cannot be compared. Rank both on the "
                "same split of the same dataset version."
            )


def _floors(inputs: GateInputs, settings: PromotionSettings) -> list[Rule]:
    found = metrics(inputs.challenger.ranking.ranks, (10,))
    floors = {"hr@10": settings.floors.hr_at_10, "ndcg@10": settings.floors.ndcg_at_10}
    return [
        at_least(1, f"{name} floor", found[name], floor, f"{name} is {found[name]:.4f}; the floor is {floor:.4f}.")
        for name, floor in floors.items()
    ]


def _against_baselines(inputs: GateInputs, settings: PromotionSettings, tests: dict[str, PairedTest]) -> list[Rule]:
    rules = []
    for name in settings.baselines:
        if name not in inputs.baselines:
            raise GateError(
                f"promotion.baselines names {name}, which this run did not train. Train it, or remove it from the list."
            )
        test = paired_bootstrap(
            ndcg(inputs.challenger.ranking),
            ndcg(inputs.baselines[name]),
            resamples=settings.resamples,
            seed=settings.bootstrap_seed,
        )
        tests[name] = test
        rules.append(
            _test_rule(1, f"beats {name}", test, settings.alpha, f"NDCG@10 {test.mean_a:.4f} against {name}'s {test.mean_b:.4f}")
        )
    return rules


def _against_champion(
    inputs: GateInputs, settings: PromotionSettings, tests: dict[str, PairedTest], comparisons: list[RuleComparison]
) -> list[Rule]:
    name = "better than the champion" if settings.rule == "better" else f"not worse than the champion by {settings.margin:.0%}"
    if inputs.champion is None:
        return [Rule(2, name, None, None, "", "not applicable", "There is no champion yet.")]
    ours, theirs = ndcg(inputs.challenger.ranking), ndcg(inputs.champion.ranking)
    margin = 0.0 if settings.rule == "better" else -settings.margin * float(theirs.mean())
    test = paired_bootstrap(ours, theirs, resamples=settings.resamples, seed=settings.bootstrap_seed, margin=margin)
    tests["champion"] = test
    least = detectable_difference(ours - theirs, settings.alpha) + margin
    comparisons.append(_comparison("all requests", test, least))
    found = (
        f"NDCG@10 {test.mean_a:.4f} against the champion's {test.mean_b:.4f} (95 % interval of the difference "
        f"{test.ci_low:+.4f} to {test.ci_high:+.4f})"
    )
    if np.array_equal(ours, theirs):
        found += "; both rank every request identically"
    elif test.p_value >= settings.alpha and least > 0:
        found += f"; a true difference below {least:.4f} would usually go undetected on {test.requests} requests"
    return [_unseen(inputs.champion, settings), _test_rule(2, name, test, settings.alpha, found)]


def _unseen(champion: Champion, settings: PromotionSettings) -> Rule:
    """Check that the champion has not seen the holdout: one trained on newer data would be ranked on its own training events."""
    name, share = "the champion has not seen the holdout", champion.seen_share
    if share is None:
        return Rule(2, name, None, None, "", "not judged", "The champion's dataset version is no longer stored.")
    most = settings.max_seen_share
    detail = (
        f"The champion {champion.version} was trained or chosen on {share:.1%} of the test events; the maximum is {most:.1%}."
    )
    if share <= most:
        return Rule(2, name, share, most, "<=", "passed", detail)
    mend = " The challenger's dataset is older than the champion's: train on a newer one."
    return Rule(2, name, share, most, "<=", "failed", detail + mend)


def _test_rule(group: int, name: str, test: PairedTest, alpha: float, found: str) -> Rule:
    verdict: Verdict = "passed" if test.p_value < alpha else "failed"
    return Rule(
        group, name, test.p_value, alpha, "p <", verdict, f"{name}: {found}; p = {test.p_value:.4f}, must be < {alpha:g}."
    )


def _slices(inputs: GateInputs, settings: PromotionSettings, comparisons: list[RuleComparison]) -> list[Rule]:
    """Fail a slice if its loss is significantly above the margin. A small slice without a significant loss passes."""
    if inputs.champion is None:
        return [Rule(3, "no slice is harmed", None, None, "", "not applicable", "There is no champion yet.")]
    ours, theirs = ndcg(inputs.challenger.ranking), ndcg(inputs.champion.ranking)
    losses: dict[str, PairedTest] = {}
    least: dict[str, float] = {}
    rules = []
    for name, mask in inputs.slices.items():
        if int(mask.sum()) < settings.min_slice_requests:
            detail = f"{name}: {int(mask.sum())} requests, fewer than {settings.min_slice_requests}."
            rules.append(Rule(3, name, None, None, "", "not judged", detail))
            continue
        allowed = settings.slice_margin * float(theirs[mask].mean())
        losses[name] = paired_bootstrap(
            theirs[mask], ours[mask], resamples=settings.resamples, seed=settings.bootstrap_seed, margin=allowed
        )
        least[name] = allowed + detectable_difference(ours[mask] - theirs[mask], settings.alpha)
        comparisons.append(_comparison(name, _reversed(losses[name]), least[name]))
    corrected = holm({name: test.p_value for name, test in losses.items()}, settings.alpha)
    for name, test in losses.items():
        p, harmed = corrected[name]
        detail = (
            f"{name}: NDCG@10 {test.mean_b:.4f} against the champion's {test.mean_a:.4f} on {test.requests} requests; a loss "
            f"above {settings.slice_margin:.0%} is {'shown' if harmed else 'not shown'} (Holm-corrected p = {p:.4f}; a true loss "
            f"of {least[name]:.4f} would usually be detected)."
        )
        rules.append(Rule(3, name, p, settings.alpha, "p >", "failed" if harmed else "passed", detail))
    return rules


def _comparison(name: str, test: PairedTest, detectable: float) -> RuleComparison:
    return RuleComparison(name, test.requests, test.mean_a, test.mean_b, test.difference, test.ci_low, test.ci_high, detectable)


def _reversed(test: PairedTest) -> PairedTest:
    """Swap a and b in the figures. The p-value stays that of a against b."""
    # 0.0 - x and not -x: the difference of two identical rankings is 0, and would be shown as -0.0000.
    return replace(
        test,
        mean_a=test.mean_b,
        mean_b=test.mean_a,
        difference=0.0 - test.difference,
        ci_low=0.0 - test.ci_high,
        ci_high=0.0 - test.ci_low,
    )


def _differences(values: npt.NDArray[np.float64]) -> Differences:
    apart = values[values != 0]
    counts, _ = np.histogram(apart, BINS)
    return Differences(counts.tolist(), int((values > 0).sum()), int((values < 0).sum()), int((values == 0).sum()))
