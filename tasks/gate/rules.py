"""The gate: is the challenger good enough to serve, and better than the champion?

Challenger and champion are ranked on the same requests in the same run; stored metrics are never compared. Every rule
adds its figure, threshold and verdict to one decision record.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from configs.errors import GateError
from configs.settings import PromotionSettings
from models.evaluation import (
    MISS,
    PairedTest,
    Ranking,
    confidence_intervals,
    detectable_difference,
    holm,
    metrics,
    paired_bootstrap,
    per_request,
    per_request_metrics,
)
from tasks.evaluation import LoadCheck
from tasks.gate.decision import ANSWERS, CHAMPION_RANKED, GROUPS, Comparison, Decision, Differences, Outcome, Rule, Verdict

__all__ = ["Challenger", "Champion", "GateInputs", "decide", "hold_unranked"]

RECORD_TOLERANCE = 0.01  # share of requests
BINS = np.linspace(-1, 1, 41)  # of per-request differences


@dataclass(frozen=True, eq=False)
class Challenger:
    """The candidate for champion."""

    version: str
    ranking: Ranking
    beyond_accuracy: dict[str, float]
    load_check: LoadCheck
    nonfinite_steps: int = 0
    recorded: Ranking | None = None  # the ranks that were stored when it was evaluated


@dataclass(frozen=True, eq=False)
class Champion:
    """The model that is served now, ranked on the challenger's requests."""

    version: str
    number: int  # of its entry in the promotion log
    ranking: Ranking
    seen_share: float | None = 0.0  # of the target events, in training or selection; None if its dataset is no longer stored


@dataclass(frozen=True, eq=False)
class GateInputs:
    """Everything that a decision depends on, except the settings."""

    model_name: str
    dataset: str
    protocol: str
    challenger: Challenger
    baselines: dict[str, Ranking]
    champion: Champion | None
    slices: dict[str, npt.NDArray[np.bool_]]


def decide(inputs: GateInputs, settings: PromotionSettings) -> Decision:
    """Judge the challenger. Groups 2 and 3 do not apply to a first model, because there is no champion to beat.

    Raises:
        GateError: The rankings are not of the same requests, or the ranking of a configured baseline is missing.
    """
    _refuse_other_requests(inputs)
    challenger, champion = inputs.challenger, inputs.champion
    tests: dict[str, PairedTest] = {}
    comparisons: list[Comparison] = []
    rules = [*_floors(inputs, settings), *_against_baselines(inputs, settings, tests)]
    rules += [*_against_champion(inputs, settings, tests, comparisons), *_slices(inputs, settings, comparisons)]
    rules += [*_health(challenger, settings), *_stored(challenger.load_check, settings), *_as_recorded(challenger)]
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
                per_request_metrics(ranking.ranks, (10,)), resamples=settings.resamples, seed=settings.seed
            )
            for name, ranking in rankings.items()
        },
        tests={name: asdict(test) for name, test in tests.items()},
        comparisons=comparisons,
        differences=_differences(_ndcg(challenger.ranking) - _ndcg(champion.ranking)) if champion else None,
        detectable_difference=comparisons[0].detectable if comparisons else None,
        settings=settings.model_dump(mode="json"),
    )


def hold_unranked(
    *,
    model_name: str,
    dataset: str,
    protocol: str,
    requests: int,
    challenger: str,
    champion: str | None,
    champion_number: int,
    check: LoadCheck,
    settings: PromotionSettings,
    champion_fault: str | None = None,
) -> Decision:
    """Hold a version without ranks: it could not be loaded or ranked, or the champion could not be ranked.

    In the latter case `champion_fault` gives the reason. The rules that need ranks are not judged.
    """
    detail = (
        "The stored version could not be ranked."
        if champion_fault is None
        else "The champion could not be ranked, so the rules that need ranks are not judged."
    )
    rules = [Rule(group, GROUPS[group], None, None, "", "not judged", detail) for group in (1, 2, 3)]
    if champion_fault is not None:
        said = (
            f"The champion {champion} cannot be ranked. {champion_fault} Only a forced promotion can make {challenger} champion."
        )
        rules.append(Rule(2, CHAMPION_RANKED, None, None, "", "failed", said))
    rules += [_finite(check), *_stored(check, settings)]
    return Decision(
        outcome="held",
        reasons=[rule.detail for rule in rules if rule.verdict == "failed"],
        model_name=model_name,
        challenger=challenger,
        champion=champion,
        champion_number=champion_number,
        dataset=dataset,
        protocol=protocol,
        requests=requests,
        metrics={},
        rules=rules,
        settings=settings.model_dump(mode="json"),
    )


def _ndcg(ranking: Ranking) -> npt.NDArray[np.float64]:
    return per_request(ranking.ranks, "ndcg", 10)


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


def _at_least(group: int, name: str, figure: float, threshold: float, detail: str) -> Rule:
    # Written so that NaN fails: every comparison with NaN is false.
    return Rule(group, name, figure, threshold, ">=", "passed" if figure >= threshold else "failed", detail)


def _floors(inputs: GateInputs, settings: PromotionSettings) -> list[Rule]:
    found = metrics(inputs.challenger.ranking.ranks, (10,))
    floors = {"hr@10": settings.floors.hr_at_10, "ndcg@10": settings.floors.ndcg_at_10}
    return [
        _at_least(1, f"{name} floor", found[name], floor, f"{name} is {found[name]:.4f}; the floor is {floor:.4f}.")
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
            _ndcg(inputs.challenger.ranking), _ndcg(inputs.baselines[name]), resamples=settings.resamples, seed=settings.seed
        )
        tests[name] = test
        rules.append(
            _test_rule(1, f"beats {name}", test, settings.alpha, f"NDCG@10 {test.mean_a:.4f} against {name}'s {test.mean_b:.4f}")
        )
    return rules


def _against_champion(
    inputs: GateInputs, settings: PromotionSettings, tests: dict[str, PairedTest], comparisons: list[Comparison]
) -> list[Rule]:
    name = "better than the champion" if settings.rule == "better" else f"not worse than the champion by {settings.margin:.0%}"
    if inputs.champion is None:
        return [Rule(2, name, None, None, "", "not applicable", "There is no champion yet.")]
    ours, theirs = _ndcg(inputs.challenger.ranking), _ndcg(inputs.champion.ranking)
    margin = 0.0 if settings.rule == "better" else -settings.margin * float(theirs.mean())
    test = paired_bootstrap(ours, theirs, resamples=settings.resamples, seed=settings.seed, margin=margin)
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


def _slices(inputs: GateInputs, settings: PromotionSettings, comparisons: list[Comparison]) -> list[Rule]:
    """Fail a slice if its loss is significantly above the margin. A small slice without a significant loss passes."""
    if inputs.champion is None:
        return [Rule(3, "no slice is harmed", None, None, "", "not applicable", "There is no champion yet.")]
    ours, theirs = _ndcg(inputs.challenger.ranking), _ndcg(inputs.champion.ranking)
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
            theirs[mask], ours[mask], resamples=settings.resamples, seed=settings.seed, margin=allowed
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


def _comparison(name: str, test: PairedTest, detectable: float) -> Comparison:
    return Comparison(name, test.requests, test.mean_a, test.mean_b, test.difference, test.ci_low, test.ci_high, detectable)


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


def _health(challenger: Challenger, settings: PromotionSettings) -> list[Rule]:
    coverage, gini = challenger.beyond_accuracy["coverage@10"], challenger.beyond_accuracy["gini@10"]
    steps = challenger.nonfinite_steps
    return [
        _finite(challenger.load_check),
        _known_targets(challenger.ranking, settings),
        Rule(
            4, "non-finite training steps", float(steps), 0.0, "==", "passed" if steps == 0 else "failed",
            f"{steps} training steps had a non-finite loss or gradient.",
        ),
        _at_least(
            4, "coverage@10", coverage, settings.min_coverage,
            f"{coverage:.1%} of the catalogue appears in a top 10; the minimum is {settings.min_coverage:.1%}.",
        ),
        Rule(
            4, "gini@10", gini, settings.max_gini, "<=", "passed" if gini <= settings.max_gini else "failed",
            f"The Gini index of recommendation counts is {gini:.3f}; the maximum is {settings.max_gini:.3f}.",
        ),
    ]  # fmt: skip


def _finite(check: LoadCheck) -> Rule:
    finite = check.finite_weights
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


def _as_recorded(challenger: Challenger) -> list[Rule]:
    """Check that the stored weights reproduce the stored ranks, except near-ties, which another CPU may break differently."""
    if challenger.recorded is None:
        return []
    share = float((_ndcg(challenger.ranking) != _ndcg(challenger.recorded)).mean())
    verdict: Verdict = "passed" if share <= RECORD_TOLERANCE else "failed"
    detail = (
        f"For {share:.1%} of the requests, the stored weights give the target another rank than the stored ranks; the maximum is "
        f"{RECORD_TOLERANCE:.1%}."
    )
    if verdict == "failed":
        detail += " Weights and ranks come from different models, or were edited."
    return [Rule(5, "ranks as recorded", share, RECORD_TOLERANCE, "<=", verdict, detail)]


def _stored(check: LoadCheck, settings: PromotionSettings) -> list[Rule]:
    detail = (
        f"A clean process loaded the stored version in {check.load_s:.2f} s and gave the same answers as the trained model."
        if check.ok
        else f"The stored version failed its check: {check.reason}."
    )
    rules = [Rule(5, ANSWERS, float(check.ok), 1.0, "==", "passed" if check.ok else "failed", detail)]
    if check.slowest_request_s is not None:
        slow = check.slowest_request_s > settings.max_request_s
        detail = f"The slowest sample request took {check.slowest_request_s:.3f} s; the limit is {settings.max_request_s:g} s."
        verdict: Verdict = "failed" if slow else "passed"
        rules.append(Rule(5, "seconds for a request", check.slowest_request_s, settings.max_request_s, "<=", verdict, detail))
    return rules
