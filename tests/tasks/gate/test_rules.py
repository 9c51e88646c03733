from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from configs.errors import GateError
from configs.settings import FloorSettings, PromotionSettings
from models.evaluation import MISS, Ranking
from tasks.evaluation import LoadCheck, RatingErrors
from tasks.gate import Decision, render_markdown
from tasks.gate.inputs import Challenger, Champion, GateInputs
from tasks.gate.page import render_html
from tasks.gate.rules import decide

USERS = 600
SETTINGS = PromotionSettings(resamples=1100)
GOOD = LoadCheck(True, 0.5, 0.01, 0.0, True, "")
BEYOND = {"coverage@10": 0.5, "gini@10": 0.8, "novelty@10": 7.0}
Mask = npt.NDArray[np.bool_]


def ranking(hit_share: float, seed: int = 0, users: int = USERS) -> Ranking:
    """A ranking with targets at rank 3 for a share of the users, else missed."""
    hits = np.random.default_rng(seed).random(users) < hit_share
    ranks = np.where(hits, 3, MISS)
    ids = np.arange(users)
    return Ranking(ids, ids + 1000, ranks, np.arange(50), np.zeros((users, 0), dtype=np.int32))


def inputs(challenger: Ranking, champion: Ranking | None = None, slices: dict[str, Mask] | None = None) -> GateInputs:
    return GateInputs(
        model_name="ranker",
        dataset="small/abc",
        protocol="loo-exact",
        challenger=Challenger("new", challenger, BEYOND, GOOD),
        baselines={"popularity": ranking(0.1, 5), "ncf": ranking(0.15, 6)},
        champion=None if champion is None else Champion("old", 4, champion),
        slices=slices or {},
    )


def failed(decision: Decision) -> list[str]:
    return [rule.name for rule in decision.rules if rule.verdict == "failed"]


def with_challenger(**changes: object) -> GateInputs:
    base = inputs(ranking(0.4))
    return replace(base, challenger=replace(base.challenger, **changes))


def test_a_first_model_that_beats_the_baselines_is_promoted() -> None:
    decision = decide(inputs(ranking(0.4)), SETTINGS)
    assert decision.outcome == "promoted" and decision.reasons == [] and decision.champion_number == 0
    verdicts = {rule.name: rule.verdict for rule in decision.rules}
    assert verdicts["better than the champion"] == verdicts["no slice is harmed"] == "not applicable"
    assert {rule.group for rule in decision.rules} == {1, 2, 3, 4, 5}
    assert set(decision.tests) == {"popularity", "ncf"} and decision.detectable_difference is None
    json.dumps(decision.to_dict())


def test_with_manual_approval_a_passing_challenger_waits() -> None:
    assert decide(inputs(ranking(0.4)), replace_settings(approval="manual")).outcome == "needs approval"
    assert decide(inputs(ranking(0.05)), replace_settings(approval="manual")).outcome == "held"


def replace_settings(**changes: object) -> PromotionSettings:
    return PromotionSettings.model_validate({**SETTINGS.model_dump(), **changes})


def test_a_challenger_below_a_floor_is_held_with_the_figure() -> None:
    decision = decide(inputs(ranking(0.4)), replace_settings(floors=FloorSettings(hr_at_10=0.9, ndcg_at_10=0.0)))
    (floor,) = [rule.detail for rule in decision.rules if rule.name == "hr@10 floor"]
    assert failed(decision) == ["hr@10 floor"] and decision.reasons == [floor]
    assert f"{decision.metrics['challenger']['hr@10']:.4f}" in decision.reasons[0] and "0.9000" in decision.reasons[0]


def test_a_clone_of_a_baseline_is_held() -> None:
    base = inputs(ranking(0.15, 6))
    assert "beats ncf" in failed(decide(base, SETTINGS))


def test_a_missing_baseline_is_an_error_not_a_pass() -> None:
    with pytest.raises(GateError, match="names ncf, which this run did not train"):
        settings = SETTINGS.model_copy(update={"baselines": ("popularity", "ncf")})
        decide(replace(inputs(ranking(0.4)), baselines={"popularity": ranking(0.1)}), settings)


def test_a_challenger_better_than_the_champion_is_promoted_against_its_entry() -> None:
    decision = decide(inputs(ranking(0.6), ranking(0.4, 1)), SETTINGS)
    assert decision.outcome == "promoted" and (decision.champion, decision.champion_number) == ("old", 4)
    assert decision.tests["champion"]["ci_low"] > 0 and decision.detectable_difference is not None


def test_the_same_model_again_is_held_and_reported_as_identical() -> None:
    decision = decide(inputs(ranking(0.4), ranking(0.4)), SETTINGS)
    assert failed(decision) == ["better than the champion"]
    assert "rank every request identically" in decision.reasons[0]


def test_an_unproven_gain_is_held_with_the_gain_that_could_have_been_seen() -> None:
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4)), SETTINGS)
    assert failed(decision) == ["better than the champion"]
    assert "a true difference below" in decision.reasons[0] and decision.detectable_difference is not None


def test_non_inferior_promotes_an_equal_challenger_and_holds_a_worse_one() -> None:
    settings = replace_settings(rule="non-inferior", margin=0.1)
    assert decide(inputs(ranking(0.4), ranking(0.4)), settings).outcome == "promoted"
    assert failed(decide(inputs(ranking(0.25, 2), ranking(0.4)), settings)) == ["not worse than the champion by 10%"]


def test_a_slice_that_is_sacrificed_holds_an_overall_gain() -> None:
    few = np.arange(USERS) < 120
    ours, theirs = ranking(0.7), ranking(0.4, 1)
    ours = replace(ours, ranks=np.where(few & (np.arange(USERS) % 12 != 0), MISS, ours.ranks))
    decision = decide(inputs(ours, theirs, {"new users": few, "others": ~few, "tiny": np.arange(USERS) < 10}), SETTINGS)
    assert failed(decision) == ["new users", "new users: no loss of 20%"] and "new users" in decision.reasons[0]
    assert {rule.name: rule.verdict for rule in decision.rules}["tiny"] == "not judged"


def test_the_health_rules_cover_weights_and_bias() -> None:
    assert failed(decide(with_challenger(load_check=replace(GOOD, ok=False, finite_weights=False, reason="nan")), SETTINGS)) == [
        "finite weights",
        "loads and answers as trained",
    ]
    assert failed(decide(with_challenger(beyond_accuracy={**BEYOND, "coverage@10": 0.001}), SETTINGS)) == ["coverage@10"]
    assert failed(decide(with_challenger(beyond_accuracy={**BEYOND, "gini@10": 0.999}), SETTINGS)) == ["gini@10"]


def test_a_challenger_that_learnt_nothing_is_held_with_what_its_training_told() -> None:
    decision = decide(with_challenger(collapsed="Training has collapsed: it learnt nothing."), SETTINGS)
    assert failed(decision) == ["the training did not collapse"]
    assert decision.reasons == ["Training has collapsed: it learnt nothing."]


def test_a_collapse_after_the_kept_epoch_and_that_of_a_baseline_are_warnings() -> None:
    told = ("ss4rec: Training has collapsed. Epoch 3 was kept.", "ncf: Training has collapsed. Epoch 1 was kept.")
    decision = decide(replace(inputs(ranking(0.4)), collapses=told), SETTINGS)
    assert decision.outcome == "promoted" and decision.warnings == list(told)


@pytest.mark.parametrize("name", ["coverage@10", "gini@10"])
def test_a_figure_that_is_nan_never_passes(name: str) -> None:
    assert failed(decide(with_challenger(beyond_accuracy={**BEYOND, name: float("nan")}), SETTINGS)) == [name]


def test_a_version_that_fails_its_check_is_held_with_the_reason() -> None:
    decision = decide(with_challenger(load_check=replace(GOOD, ok=False, reason="it did not load")), SETTINGS)
    assert failed(decision) == ["loads and answers as trained"] and "it did not load" in decision.reasons[0]
    unanswered = decide(with_challenger(load_check=replace(GOOD, ok=False, reason="x", request_s=None)), SETTINGS)
    assert "seconds for a request" not in [rule.name for rule in unanswered.rules]


@pytest.mark.parametrize(
    ("slow", "rule", "setting"),
    [
        ({"request_s": 5.0}, "seconds for a request", "promotion.max_request_s"),
        ({"load_s": 500.0}, "seconds to load", "promotion.max_load_s"),
    ],
)
def test_a_slow_version_is_held_for_that_alone_and_can_be_forced(slow: dict[str, float], rule: str, setting: str) -> None:
    decision = decide(with_challenger(load_check=replace(GOOD, **slow)), SETTINGS)
    assert failed(decision) == [rule] and decision.outcome == "held" and decision.broken is None
    assert f"{setting} allows" in decision.reasons[0] and f"--set {setting}=SECONDS" in decision.reasons[0]
    assert decision.metrics["challenger"]["ndcg@10"] > 0, "it is ranked like any other"


def test_rankings_of_other_requests_are_not_compared() -> None:
    other = ranking(0.4)
    for wrong in (replace(other, user_ids=other.user_ids + 1), replace(other, targets=other.targets + 1)):
        with pytest.raises(GateError, match="the champion were ranked on different requests"):
            decide(inputs(ranking(0.6), wrong), SETTINGS)


def test_the_record_reads_as_a_table() -> None:
    text = render_markdown(decide(inputs(ranking(0.4), ranking(0.4)), SETTINGS))
    assert text.startswith("## ✗ Held: ranker new") and "champion old" in text
    assert "### Against the champion" in text and "| hr@10 floor |" in text
    assert "80 % power" in text
    assert "this is the first model" in render_markdown(decide(inputs(ranking(0.4)), SETTINGS))


def test_ratings_are_shown_and_decide_only_if_a_setting_asks_for_it() -> None:
    rated = with_challenger(ratings=RatingErrors({"rmse": 0.93, "mae": 0.74}, {"rmse": (0.9, 0.96), "mae": (0.7, 0.8)}))
    shown = decide(rated, SETTINGS)
    assert shown.outcome == "promoted" and "RMSE of ratings" not in {rule.name for rule in shown.rules}
    assert shown.metrics["challenger"]["rmse"] == 0.93 and "rmse" not in shown.metrics["ncf"]
    assert "RMSE 0.9300, MAE 0.7400" in render_markdown(shown) and "decides nothing" in render_markdown(shown)
    assert b"RMSE 0.9300, MAE 0.7400" in render_html(shown)
    assert "RMSE" not in render_markdown(decide(with_challenger(), SETTINGS))


@pytest.mark.parametrize(("most", "verdict"), [(0.93, "passed"), (0.9299, "failed")])
def test_a_challenger_whose_ratings_are_too_far_off_is_held(most: float, verdict: str) -> None:
    strict = SETTINGS.model_copy(update={"max_rmse": most})
    decision = decide(with_challenger(ratings=RatingErrors({"rmse": 0.93, "mae": 0.74})), strict)
    assert {rule.name: rule.verdict for rule in decision.rules}["RMSE of ratings"] == verdict
    assert (decision.outcome == "held") == (verdict == "failed") and "decides nothing" not in render_markdown(decision)


def test_a_bound_on_ratings_holds_a_challenger_that_predicts_none() -> None:
    decision = decide(with_challenger(), SETTINGS.model_copy(update={"max_rmse": 1.0}))
    assert failed(decision) == ["RMSE of ratings"]
    assert decision.reasons[0].startswith("promotion.max_rmse is 1, but the challenger predicts no ratings")
