"""The rules that compare a challenger with the champion and with earlier champions: overall (group 2) and by slice (group 3).

Two kinds of chance are told apart. The users who happen to be in the holdout differ from other users, and two trainings of the
same recipe differ although nothing was improved. The comparison with the champion allows for both, because a retraining that wins
by its seed brings no better recipe, only churn. Every other rule allows for the users only: it protects people from this version,
and a loss of this version is a loss, whatever caused it.

The comparison with the champion is made at `alpha / decisions_per_year`. The chance that any of the year's decisions promotes by
luck is then at most alpha, however they depend on each other (Bonferroni's inequality). Rules that only hold need no such budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from configs.settings import PromotionSettings
from configs.significance import least_resamples
from models.evaluation import FloatArray, PairedTest, detectable_difference, holm, paired_test
from tasks.gate.decision import ANCHOR, LIMIT, Differences, Rule, RuleComparison, Verdict, shown_p
from tasks.gate.inputs import Champion, GateInputs, Opponent, ndcg

__all__ = ["Findings", "compare_with_champions", "test_rule"]

BINS = np.linspace(-1, 1, 41)  # of per-request differences
MISSED = 0.2  # chance that a loss of `slice_limit` is not found; the page says "four times out of five"


@dataclass
class Findings:
    """What the comparisons with champions found."""

    rules: list[Rule] = field(default_factory=list)
    tests: dict[str, PairedTest] = field(default_factory=dict)
    comparisons: list[RuleComparison] = field(default_factory=list)  # all requests first, then slices
    differences: Differences | None = None
    warnings: list[str] = field(default_factory=list)
    better: bool = True  # than the version that a margin counts from; true of a first model


def compare_with_champions(inputs: GateInputs, settings: PromotionSettings) -> Findings:
    """Apply the rules of groups 2 and 3. They do not apply to a first model, because there is no champion to beat.

    Requests that the champion has learnt are left out, because it would be ranked on what it was trained on.
    """
    found = Findings()
    champion, fair = inputs.champion, inputs.fair
    if champion is None:
        for group, name in ((2, _name(settings)), (3, "no slice is harmed")):
            found.rules.append(Rule(group, name, None, None, "", "not applicable", "There is no champion yet."))
        return found
    found.rules.append(_unseen(champion, settings))
    if not fair.any():
        said = f"The champion {champion.version} has learnt the user and item of every request, so none is left to compare."
        found.rules += [
            Rule(group, name, None, None, "", "not judged", said) for group, name in ((2, _name(settings)), (3, "slices"))
        ]
        return found
    ours, theirs = ndcg(inputs.challenger.ranking)[fair], ndcg(champion.ranking)[fair]
    found.differences = _differences(ours - theirs)
    _overall(found, inputs, ours, theirs, settings)
    _against_anchor(found, inputs, settings)
    masks = {name: mask[fair] for name, mask in inputs.slices.items()}
    _slices(found, ours, theirs, masks, settings)
    return found


def test_rule(group: int, name: str, test: PairedTest, level: float, found: str) -> Rule:
    """Require that a test is significant at `level`."""
    verdict: Verdict = "passed" if test.p_value <= level else "failed"
    detail = f"{name}: {found}; p = {shown_p(test.p_value)}, must be at most {level:.2g}."
    return Rule(group, name, test.p_value, level, "p <=", verdict, detail)


def _name(settings: PromotionSettings) -> str:
    return "better than the champion" if settings.rule == "better" else f"not worse than the champion by {settings.margin:.0%}"


def _unseen(champion: Champion, settings: PromotionSettings) -> Rule:
    """Check that the champion has not seen the holdout: one trained on newer data would be ranked on its own training events."""
    name, share = "the champion has not seen the holdout", champion.seen_share
    if share is None:
        return Rule(2, name, None, None, "", "not judged", "The champion's dataset version is no longer stored.")
    most = settings.max_seen_share
    detail = (
        f"The champion {champion.version} was trained or chosen on {share:.1%} of the test events; the maximum is {most:.1%}."
    )
    if champion.learnt is not None and champion.learnt.any():
        detail += (
            f" {int(champion.learnt.sum())} requests are not compared, because it has learnt their user and item, at this or "
            "another time."
        )
    if share <= most:
        return Rule(2, name, share, most, "<=", "passed", detail)
    mend = " The challenger's dataset is older than the champion's: train on a newer one."
    return Rule(2, name, share, most, "<=", "failed", detail + mend)


def _overall(found: Findings, inputs: GateInputs, ours: FloatArray, theirs: FloatArray, settings: PromotionSettings) -> None:
    """Compare with the champion, and under `non-inferior` also with the version that the margin counts from."""
    champion_mean = float(theirs.mean())
    # Two trainings are compared, so the variance of one counts twice.
    luck = inputs.noise.relative * champion_mean * math.sqrt(2)
    test = paired_test(ours, theirs, resamples=settings.resamples, seed=settings.bootstrap_seed, common_sd=luck)
    found.tests["champion"] = test
    least = detectable_difference(ours - theirs, settings.level, luck)
    found.better = test.p_value <= settings.level
    said = _said(test, f"the champion's {test.mean_b:.4f}", least, np.array_equal(ours, theirs), settings)
    if settings.rule == "better":
        found.rules.append(test_rule(2, _name(settings), test, settings.level, said))
    else:
        least = _not_worse(found, inputs, settings)
    found.comparisons.append(_comparison("all requests", test, least))


def _not_worse(found: Findings, inputs: GateInputs, settings: PromotionSettings) -> float:
    """Require that the challenger is not worse, by the margin, than the last champion that was shown to be better.

    If the margin counted from each champion, many small losses would add up. Returns the detectable difference.
    """
    name, champion = _name(settings), inputs.champion
    assert champion is not None
    since = inputs.margin_from or Opponent(champion.version, champion.ranking)
    if since.ranking is None:
        detail = (
            f"{name}: the margin counts from {since.version}, the last champion that was shown to be better, which cannot be ranked. "
            f"{since.fault} Set promotion.rule to better, or force the promotion."
        )
        found.rules.append(Rule(2, name, None, None, "", "failed", detail))
        return math.inf
    fair = inputs.fair if since.learnt is None else inputs.fair & ~since.learnt
    ours, theirs = ndcg(inputs.challenger.ranking)[fair], ndcg(since.ranking)[fair]
    margin = -settings.margin * float(theirs.mean())
    test = paired_test(ours, theirs, resamples=settings.resamples, seed=settings.bootstrap_seed, margin=margin)
    found.tests["margin"] = test
    least = detectable_difference(ours - theirs, settings.level) + margin
    if inputs.margin_from is not None:
        luck = inputs.noise.relative * test.mean_b * math.sqrt(2)
        strict = paired_test(ours, theirs, resamples=settings.resamples, seed=settings.bootstrap_seed, common_sd=luck)
        found.better = strict.p_value <= settings.level
    other = f"{test.mean_b:.4f} of {since.version}, from which the margin counts"
    said = _said(test, other, least, np.array_equal(ours, theirs), settings)
    found.rules.append(test_rule(2, name, test, settings.level, said))
    return least


def _said(test: PairedTest, other: str, least: float, identical: bool, settings: PromotionSettings) -> str:
    """Return what a comparison found, in words. `other` is the figure of the other version, and whose it is."""
    said = (
        f"NDCG@10 {test.mean_a:.4f} against {other} (95 % interval of the difference {test.ci_low:+.4f} to {test.ci_high:+.4f})"
    )
    if identical:
        return f"{said}; both rank every request identically"
    if test.p_value > settings.level and least > 0:
        return f"{said}; a true difference below {least:.4f} would usually go undetected on {test.requests} requests"
    return said


def _against_anchor(found: Findings, inputs: GateInputs, settings: PromotionSettings) -> None:
    """Hold a challenger that the champion of a quarter ago is shown to be better than: the champions may have become worse."""
    name, anchor = ANCHOR, inputs.anchor
    if anchor is None:
        why = (
            "promotion.anchor_days is 0."
            if settings.anchor_days == 0
            else f"No other version was champion {settings.anchor_days} days ago."
        )
        found.rules.append(Rule(2, name, None, None, "", "not applicable", why))
        return
    fair = inputs.fair if anchor.learnt is None else inputs.fair & ~anchor.learnt
    if anchor.ranking is None or not fair.any():
        why = anchor.fault or "It has learnt every request."
        detail = f"The champion of {settings.anchor_days} days ago, {anchor.version}, could not be compared. {why}"
        found.rules.append(Rule(2, name, None, None, "", "not judged", detail))
        found.warnings.append(detail)
        return
    ours, theirs = ndcg(inputs.challenger.ranking)[fair], ndcg(anchor.ranking)[fair]
    test = paired_test(theirs, ours, resamples=settings.resamples, seed=settings.bootstrap_seed)
    found.tests["anchor"] = _reversed(test)
    worse = test.p_value <= settings.alpha
    detail = (
        f"{name}: NDCG@10 {test.mean_b:.4f} against {test.mean_a:.4f} of {anchor.version}, the champion of {settings.anchor_days} days "
        f"ago, which is {'shown' if worse else 'not shown'} to be better (p = {shown_p(test.p_value)}; a true loss of "
        f"{detectable_difference(ours - theirs, settings.alpha):.4f} is found four times out of five)."
    )
    found.rules.append(Rule(2, name, test.p_value, settings.alpha, "p >", "failed" if worse else "passed", detail))


def _slices(
    found: Findings,
    ours: FloatArray,
    theirs: FloatArray,
    masks: dict[str, npt.NDArray[np.bool_]],
    settings: PromotionSettings,
) -> None:
    """Fail a slice if a loss above the margin is shown, or if a loss of the limit cannot be ruled out.

    The first test alone would let pass what a small slice cannot show. The second one finds a loss of the limit in four cases out
    of five, whatever the size of the slice.
    """
    judged = {name: mask for name, mask in masks.items() if int(mask.sum()) >= settings.min_slice_requests}
    few = {name: int(mask.sum()) for name, mask in masks.items() if name not in judged}
    for name, count in few.items():
        detail = f"{name}: {count} requests, fewer than {settings.min_slice_requests}."
        found.rules.append(Rule(3, name, None, None, "", "not judged", detail))
    if any(few.values()):
        listed = ", ".join(f"{name} ({count})" for name, count in few.items() if count)
        found.warnings.append(
            f"Too few requests to judge: {listed}. A loss for them would not be seen; promotion.min_slice_requests asks for "
            f"{settings.min_slice_requests}."
        )
    enough = least_resamples(settings.alpha, max(len(judged), 1))  # the team's own slices may be more than the usual ones
    drawn = {"resamples": max(settings.resamples, enough), "seed": settings.bootstrap_seed}
    losses = {
        name: paired_test(theirs[mask], ours[mask], margin=settings.slice_margin * float(theirs[mask].mean()), **drawn)
        for name, mask in judged.items()
    }
    corrected = holm({name: test.p_value for name, test in losses.items()}, settings.alpha)
    for name, test in losses.items():
        differences = ours[judged[name]] - theirs[judged[name]]
        # Holm's first step is the strictest. A loss that it finds is found whatever the other slices show.
        least = test.margin + detectable_difference(differences, settings.alpha / len(losses))
        limit = settings.slice_limit * test.mean_a
        if settings.slice_limit < 1:
            least = min(least, limit)
        p, harmed = corrected[name]
        detail = (
            f"{name}: NDCG@10 {test.mean_b:.4f} against the champion's {test.mean_a:.4f} on {test.requests} requests; a loss "
            f"above {settings.slice_margin:.0%} is {'shown' if harmed else 'not shown'} (Holm-corrected p = {shown_p(p)}; a true loss "
            f"of {_loss(least, test.mean_a)} is found four times out of five)."
        )
        found.rules.append(Rule(3, name, p, settings.alpha, "p >", "failed" if harmed else "passed", detail))
        if settings.slice_limit < 1 and test.mean_a > 0:
            found.rules.append(_limit_rule(name, ours[judged[name]], theirs[judged[name]], settings))
        found.comparisons.append(_comparison(name, _reversed(test), least))


def _limit_rule(name: str, ours: FloatArray, theirs: FloatArray, settings: PromotionSettings) -> Rule:
    limit = settings.slice_limit
    test = paired_test(
        ours, theirs, resamples=settings.resamples, seed=settings.bootstrap_seed, margin=-limit * float(theirs.mean())
    )
    ruled_out = test.p_value <= MISSED
    detail = (
        f"{name}: a loss of {limit:.0%} is {'ruled out' if ruled_out else 'not ruled out'} with {1 - MISSED:.0%} confidence "
        f"(p = {shown_p(test.p_value)}, must be at most {MISSED:g})."
    )
    verdict: Verdict = "passed" if ruled_out else "failed"
    return Rule(3, f"{name}{LIMIT}{limit:.0%}", test.p_value, MISSED, "p <=", verdict, detail)


def _loss(loss: float, of: float) -> str:
    return f"{loss:.4f} ({loss / of:.0%})" if of > 0 else f"{loss:.4f}"


def _comparison(name: str, test: PairedTest, detectable: float) -> RuleComparison:
    """Describe a comparison of challenger (a) and champion (b)."""
    share = detectable / test.mean_b if test.mean_b > 0 else None
    return RuleComparison(
        name, test.requests, test.mean_a, test.mean_b, test.difference, test.ci_low, test.ci_high, detectable, share
    )


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


def _differences(values: FloatArray) -> Differences:
    apart = values[values != 0]
    counts, _ = np.histogram(apart, BINS)
    return Differences(counts.tolist(), int((values > 0).sum()), int((values < 0).sum()), int((values == 0).sum()))
