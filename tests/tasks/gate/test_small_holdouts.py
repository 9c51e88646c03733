"""What the gate can and cannot know: few requests, small groups, lucky trainings, many decisions a year."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from configs.settings import SLICES, PromotionSettings
from models.evaluation import MISS, Ranking, slices
from models.recommender import Requests, Sequences
from tasks.gate import Decision, decision_notice, render_markdown, summary
from tasks.gate.inputs import Champion, GateInputs, Opponent, TrainingNoise
from tasks.gate.opponents import pooled_noise
from tasks.gate.page import render_html
from tasks.gate.rules import decide
from tests.tasks.gate import test_rules
from tests.tasks.gate.test_rules import USERS, Mask, ranking

FREE = {"baselines": (), "floors": {"hr_at_10": 0.0, "ndcg_at_10": 0.0}, "resamples": 2000}


def settings(**changes: object) -> PromotionSettings:
    return PromotionSettings.model_validate({**FREE, **changes})


def inputs(challenger: Ranking, champion: Ranking | None = None, slices: dict[str, Mask] | None = None) -> GateInputs:
    return replace(test_rules.inputs(challenger, champion, slices), baselines={})


def hits(count: int, users: int) -> Ranking:
    """A ranking with the first `count` targets at rank 1, and the rest missed."""
    return replace(ranking(0.5, users=users), ranks=np.where(np.arange(users) < count, 1, MISS))


def verdicts(decision: Decision) -> dict[str, str]:
    return {rule.name: rule.verdict for rule in decision.rules}


def failed(decision: Decision) -> list[str]:
    return [name for name, verdict in verdicts(decision).items() if verdict == "failed"]


@pytest.mark.parametrize("requests", [1, 2, 4, 5, 10, 30, 74])
def test_on_few_requests_nothing_is_promoted_and_the_reason_says_how_many_are_needed(requests: int) -> None:
    decision = decide(inputs(hits(requests, requests), hits(0, requests)), settings())
    assert decision.outcome == "held" and "enough requests" in failed(decision)
    assert decision.reasons[0].startswith(f"There are {requests} requests to judge on; promotion.min_requests asks for 75.")
    assert f"the events of {75 - requests} more users" in decision.reasons[0]
    first = decide(inputs(hits(requests, requests)), settings())
    assert first.outcome == "held" and "enough requests" in failed(first), "a first model is held too"


def test_four_better_and_none_worse_are_not_significant_but_twelve_are() -> None:
    decision = decide(inputs(hits(4, 80), hits(0, 80)), settings(decisions_per_year=1, training_noise=0))
    assert decision.tests["champion"]["p_value"] == pytest.approx(0.0625) and decision.outcome == "held"
    enough = decide(inputs(hits(12, 80), hits(0, 80)), settings(training_noise=0))
    assert enough.tests["champion"]["p_value"] == pytest.approx(2.0**-12) and enough.outcome == "promoted"


def test_a_group_that_is_too_small_to_judge_gets_a_warning() -> None:
    few = {"new users": np.arange(USERS) < 12, "tail items": np.arange(USERS) < 30, "others": np.arange(USERS) >= 12}
    decision = decide(inputs(ranking(0.6), ranking(0.4, 1), {**few, "nobody": np.zeros(USERS, bool)}), settings())
    assert decision.outcome == "promoted"
    assert decision.warnings == [
        "Too few requests to judge: new users (12), tail items (30). A loss for them would not be seen; "
        "promotion.min_slice_requests asks for 50."
    ]
    assert decision.warnings[0] in render_html(decision).decode() and "Too few requests" in render_markdown(decision)
    assert "Too few requests to judge: new users (12)" in decision_notice(decision, {}).body


def test_too_few_resamples_to_show_anything_are_refused_with_the_least_that_work() -> None:
    for given, least in (({"resamples": 118, "decisions_per_year": 1}, 119), ({"resamples": 1000}, 1039)):
        with pytest.raises(ValidationError, match=f"set resamples to at least {least}"):
            PromotionSettings.model_validate(given)
        assert PromotionSettings.model_validate({**given, "resamples": least}).resamples == least
    with pytest.raises(ValidationError, match="set resamples to at least 599"):
        PromotionSettings(resamples=598, alpha=0.01, decisions_per_year=1)


def test_settings_that_an_earlier_version_stored_are_read_with_the_least_resamples_that_work() -> None:
    assert PromotionSettings.of_version({"resamples": 300, "seed": 4}).model_dump(include={"resamples", "bootstrap_seed"}) == {
        "resamples": 1039,
        "bootstrap_seed": 4,
    }
    assert PromotionSettings.of_version({"resamples": 5000}).resamples == 5000
    with pytest.raises(ValidationError, match="at least 1039"):
        PromotionSettings.of_version({"resamples": 300}, given={"resamples"})


def test_with_the_least_resamples_a_slice_that_loses_everything_is_found() -> None:
    least = settings(decisions_per_year=1, resamples=119, slice_limit=1.0)
    masks = {f"slice {number}": np.arange(USERS) % SLICES == number for number in range(SLICES)}
    challenger = ranking(0.5)
    challenger = replace(challenger, ranks=np.where(masks["slice 0"], MISS, challenger.ranks))
    assert "slice 0" in failed(decide(inputs(challenger, ranking(0.5), masks), least))


def test_the_level_is_shared_by_as_many_slices_as_are_judged() -> None:
    one = np.zeros(1, np.int64)
    train = Sequences(one, np.array([0, 1]), one, one)
    requests = Requests(one, np.array([0, 1]), one, one, one, one)
    assert len(slices(train, requests)) == SLICES


@pytest.mark.full
def test_a_loss_that_the_page_states_is_found_four_times_out_of_five() -> None:
    rng = np.random.default_rng(3)
    users = 900
    masks = {f"slice {number}": np.arange(users) % SLICES == number for number in range(SLICES)}
    for limit, loss in ((1.0, 0.36), (0.2, 0.2)):
        gate, found, stated = settings(slice_limit=limit, resamples=1100), 0, []
        for _ in range(50):
            old = rng.random(users) < 0.5
            now = np.where(rng.random(users) < 0.3, rng.random(users) < 0.5, old)
            now &= ~masks["slice 0"] | (rng.random(users) >= loss)
            decision = decide(inputs(_rank3(now), _rank3(old), masks), gate)
            stated.append(decision.comparisons[1].detectable_share)
            found += any(rule.verdict == "failed" and rule.name.startswith("slice 0") for rule in decision.rules)
        assert np.mean([share for share in stated if share is not None]) == pytest.approx(loss, abs=0.02)
        assert 33 <= found <= 48, f"{found} of 50 with limit {limit}"


def _rank3(hit: object) -> Ranking:
    values = np.asarray(hit)
    return replace(ranking(0.5, users=len(values)), ranks=np.where(values, 3, MISS))


def test_the_page_says_which_loss_of_a_group_is_found_and_where_its_level_comes_from() -> None:
    case = inputs(ranking(0.45, 3), ranking(0.4, 1), {"new users": np.arange(USERS) < 150})
    decision = decide(replace(case, noise=TrainingNoise(0.04)), settings())
    stated = decision.comparisons[1]
    assert stated.detectable_share == pytest.approx(0.2) and stated.detectable == pytest.approx(0.2 * stated.champion)
    page = render_html(decision).decode()
    assert "(20 %)" in page and "alpha is shared by the 52 decisions of a year" in page
    assert "trainings of one recipe that differ by" in page and "is found four times out of five" in page


def test_a_loss_for_new_users_that_cannot_be_ruled_out_holds_a_challenger_that_gains_elsewhere() -> None:
    rng = np.random.default_rng(8)
    new = np.arange(USERS) < 141
    held = {0.3: 0, 0.0: 0}
    for loss in held:
        for _ in range(20):
            old = rng.random(USERS) < 0.5
            now = np.where(rng.random(USERS) < 0.1, rng.random(USERS) < 0.5, old)
            now = np.where(new, now & (rng.random(USERS) >= loss), now | (rng.random(USERS) < 0.4))
            decision = decide(inputs(_rank3(now), _rank3(old), {"new users": new, "others": ~new}), settings())
            held[loss] += any(name.startswith("new users") for name in failed(decision))
    assert held[0.3] >= 18 and held[0.0] <= 3


def test_a_gain_that_the_luck_of_a_training_explains_is_held() -> None:
    challenger, champion = ranking(0.47, 3), ranking(0.4, 3)  # hits for the same users, and for some more
    alone = decide(inputs(challenger, champion), settings(training_noise=0))
    lucky = decide(replace(inputs(challenger, champion), noise=TrainingNoise(0.1, 7)), settings())
    assert alone.outcome == "promoted" and failed(lucky) == ["better than the champion"]
    assert lucky.training_noise == 0.1 and "(corrected by 7 pairs of past retrainings)" in render_markdown(lucky)


def test_the_level_of_a_decision_is_its_share_of_the_year() -> None:
    decision = decide(inputs(hits(6, 80), hits(0, 80)), settings(training_noise=0))
    assert decision.level == pytest.approx(0.05 / 52) and decision.outcome == "held", (
        "2 ** -6 is below alpha, but not below the level"
    )
    assert decide(inputs(hits(6, 80), hits(0, 80)), settings(training_noise=0, decisions_per_year=1)).outcome == "promoted"


def test_more_decisions_than_share_the_level_give_a_warning() -> None:
    base = inputs(ranking(0.6), ranking(0.4, 1))
    assert decide(replace(base, decisions=51), settings()).warnings == []
    assert "53 versions were judged in the past year" in decide(replace(base, decisions=52), settings()).warnings[0]


def test_the_noise_of_training_is_learnt_from_past_retrainings_and_lowered_only_by_many() -> None:
    rng = np.random.default_rng(2)
    users = rng.random(900)
    assert pooled_noise(0.04, []) == TrainingNoise(0.04, 0)

    def retrained(noise: float, pairs: int) -> TrainingNoise:
        trained = [users * (1 + rng.normal(0, noise)) + rng.normal(0, 0.05, 900) for _ in range(pairs + 1)]
        return pooled_noise(0.04, list(pairwise(trained)))

    assert 0.1 < retrained(0.2, 24).relative < 0.3
    assert retrained(0.0, 24).relative < 0.01
    assert retrained(0.0, 7) == TrainingNoise(0.04, 7), "few pairs do not lower the noise"


def earlier(found: Ranking, version: str = "older") -> Opponent:
    return Opponent(version, found)


def test_a_challenger_that_the_champion_of_a_quarter_ago_beats_is_held() -> None:
    base = inputs(ranking(0.5, 3), ranking(0.3, 1))
    held = decide(replace(base, anchor=earlier(ranking(0.7, 2))), settings())
    assert failed(held) == ["not below the earlier champion"] and held.anchor == "older" and "older" in held.reasons[0]
    assert decide(replace(base, anchor=earlier(ranking(0.5, 2))), settings()).outcome == "promoted"
    lost = decide(replace(base, anchor=Opponent("older", fault="It is gone.")), settings())
    assert lost.outcome == "promoted" and "It is gone." in lost.warnings[0]


def test_losses_that_the_margin_allows_do_not_add_up() -> None:
    rng = np.random.default_rng(5)
    users, gate = 50_000, settings(rule="non-inferior", margin=0.02, training_noise=0.01)
    draws = rng.random(users)
    first = champion = replace(ranking(0.5, users=users), ranks=np.where(draws < 0.4, 1, MISS))
    share, promoted = 0.4, 0
    for number in range(8):  # each is one per cent worse than the champion
        candidate = replace(champion, ranks=np.where(draws < share * 0.99, 1, MISS))
        case = inputs(candidate, champion)
        decision = decide(replace(case, margin_from=Opponent("first", first) if number else None), gate)
        assert decision.margin_from == ("first" if number else "old"), (
            "the margin counts from the champion that the first candidate replaces"
        )
        if decision.outcome == "promoted":
            champion, share, promoted = candidate, share * 0.99, promoted + 1
    assert promoted <= 2 and share >= 0.4 * 0.98


def test_a_challenger_is_held_with_a_remedy_if_the_start_of_its_margin_cannot_be_ranked() -> None:
    base = replace(inputs(ranking(0.4), ranking(0.4)), margin_from=Opponent("older", fault="It is gone."))
    decision = decide(base, settings(rule="non-inferior", margin=0.1))
    assert decision.outcome == "held" and "It is gone. Set promotion.rule to better" in decision.reasons[0]
    assert "undetected" not in summary(decision) and "inf" not in render_markdown(decision)


def test_requests_that_the_champion_has_learnt_are_not_compared_and_fresh_ones_are_counted() -> None:
    learnt = np.arange(USERS) < 60
    theirs = ranking(0.4, 1)
    theirs = replace(theirs, ranks=np.where(learnt, 1, theirs.ranks))
    case: GateInputs = inputs(ranking(0.5, 3), theirs, {"all": np.ones(USERS, bool)})
    blind = decide(case, settings())
    knowing = decide(replace(case, champion=Champion("old", 4, theirs, learnt=learnt, fresh=97)), settings())
    assert knowing.comparisons[0].requests == knowing.comparisons[1].requests == 540 and knowing.excluded_requests == 60
    assert knowing.comparisons[0].difference > blind.comparisons[0].difference
    text = render_markdown(knowing)
    assert knowing.fresh_requests == 97 and "97 are fresh" in text and "60 requests are not compared" in text
    every = decide(replace(case, champion=Champion("old", 4, theirs, learnt=np.ones(USERS, bool))), settings())
    assert every.outcome == "held" and "none is left to compare" in render_html(every).decode()
