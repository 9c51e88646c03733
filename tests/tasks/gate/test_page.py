from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
from markdown_it import MarkdownIt

from tasks.evaluation import LoadCheck, Refit
from tasks.gate import Approval, comparison_png, decision_notice, render_markdown, summary, with_refit
from tasks.gate.decision import Rule
from tasks.gate.inputs import UnrankedInputs
from tasks.gate.page import next_step, render_html
from tasks.gate.rules import decide, hold_unranked
from tasks.training import Began, Earlier, Warm
from tests.planted import PLANTED, planted_elements
from tests.tasks.gate.test_rules import SETTINGS, USERS, inputs, ranking, replace_settings

STEPS = "non-finite training steps"
"""A rule of decisions that were stored in earlier days."""
HALVES = {"new users": np.arange(USERS) < 300, "others": np.arange(USERS) >= 300}


def unranked(check: LoadCheck) -> UnrankedInputs:
    return UnrankedInputs(
        model_name="ranker",
        dataset="small/abc",
        protocol="loo-exact",
        requests=9,
        challenger="new",
        champion="old",
        champion_number=1,
        load_check=check,
    )


def test_the_page_states_the_verdict_every_reason_and_every_rule() -> None:
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4), HALVES), SETTINGS)
    page = render_html(decision).decode()
    text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))
    assert decision.outcome == "held" and "Held" in text and decision.challenger in text
    for reason in decision.reasons:
        assert reason in text
    for rule in decision.rules:
        assert rule.name in text and rule.detail in text
    for metric, (low, high) in decision.intervals["champion"].items():
        assert f"{low:.4f} to {high:.4f}" in text and metric.upper() in text
    assert "data:image/svg+xml;base64," in page and "src=" in page and "http" not in page.replace("http-equiv", "")
    assert "new users" in text and f"{decision.comparisons[1].detectable:.4f}" in text


def test_names_from_outside_cannot_add_markup_to_the_page() -> None:
    decision = replace(decide(inputs(ranking(0.4)), SETTINGS), dataset="<script>alert(1)</script>")
    assert b"<script>" not in render_html(decision) and b"&lt;script&gt;" in render_html(decision)


def test_markup_in_a_reason_is_shown_as_written() -> None:
    said = Approval(True, PLANTED[1], "2026-01-01", PLANTED[6])
    decision = replace(
        decide(inputs(ranking(0.4)), SETTINGS), reasons=list(PLANTED), dataset=PLANTED[0], protocol=PLANTED[8], approval=said
    )
    assert planted_elements(render_html(decision).decode()) == []
    drawn = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(render_markdown(decision))
    assert planted_elements(drawn) == [] and not re.search(r"<(img|a|em|s|h1|script)\b", drawn)
    text = html.unescape(re.sub(r"<[^>]+>", "", drawn)).replace("\N{WORD JOINER}", "")
    assert all(reason in text for reason in PLANTED) and f"Approved by {PLANTED[1]}" in text


def test_the_page_and_the_summary_say_which_weights_serve_and_how_they_were_checked() -> None:
    decision = decide(inputs(ranking(0.4)), SETTINGS)
    served = Refit(True, "", 7, 100_000, 12.4, 0.613, 500, 0.2)
    refused = replace(served, served=False, reason="Its top tens have only 6% of <b>their</b> items in common.", agreement=None)
    for refit, said in (
        (served, "trained again on all 100,000 events"),
        (served, "7 epochs in 12.4 s. Its top tens have 61% of their items in common"),
        (served, "All other figures here are those of the judged weights."),
        (refused, "the judged weights, because the training on all events failed its checks. Its top tens have only 6%"),
    ):
        told = with_refit(decision, refit)
        page = re.sub(r"\s+", " ", render_html(told).decode())
        assert said in page and said in render_markdown(told), said
        assert "<b>their" not in page
    assert "What serves" not in render_markdown(decision) and b"What serves" not in render_html(decision)


def test_the_page_and_the_summary_say_how_the_training_began_and_what_both_kinds_took() -> None:
    decision = decide(inputs(ranking(0.4)), SETTINGS)
    warm = Warm("v1", 2, 40, 8, 1200, 9000)
    for began, said in (
        (Began(warm, 14.0, Earlier("v0", 0, 130.0, 0.4)), "It began warm, with the weights of v1, 2 warm starts after"),
        (
            Began(warm, 14.0, Earlier("v0", 0, 130.0, 0.4)),
            "learnt 1,200 of 9,000 events: those of 40 users with new events, and of 8",
        ),
        (Began(warm, 14.0, Earlier("v0", 0, 130.0, 0.4)), "The last training from scratch (v0) took 2.2 min and cost $0.40."),
        (Began(None, 130.0, Earlier("v1", 0, 14.0, None)), "It was trained from scratch. That took 2.2 min."),
        (
            Began(None, 130.0, why="one of 5 trainings is from scratch (training.full_every)"),
            "It was trained from scratch, because one of 5 trainings is from scratch (training.full_every). That took 2.2 min.",
        ),
        (Began(None, 130.0, Earlier("v1", 0, 14.0, None)), "The last warm start (v1) took 14.0 s."),
        (Began(None, 130.0), "There was no warm start before it."),
    ):
        told = replace(decision, began=began)
        page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", render_html(told).decode()))
        assert said in page and said in render_markdown(told).replace("\\", ""), said
    assert "began" not in render_markdown(decision)


def test_a_first_model_has_no_comparison_to_draw() -> None:
    decision = decide(inputs(ranking(0.4)), SETTINGS)
    assert comparison_png(decision) is None and "no champion to compare" in summary(decision)
    assert b"<img" not in render_html(decision)


def test_a_version_that_could_not_be_ranked_has_a_page_too() -> None:
    decision = hold_unranked(unranked(LoadCheck.failed("it did not load")), SETTINGS)
    page = render_html(decision).decode()
    assert "no comparison was made" in page and "it did not load" in page and "How well" not in page


def test_the_page_says_that_the_champion_is_at_fault_if_it_cannot_be_ranked() -> None:
    check = LoadCheck(ok=True, load_s=0.8, request_s=0.02, score_deviation=0.0, finite_weights=True, reason="")
    decision = hold_unranked(replace(unranked(check), champion_fault="Its weights are damaged."), SETTINGS)
    assert decision.reasons == [
        "The champion old cannot be ranked. Its weights are damaged. Only a forced promotion can make new champion."
    ]
    page = render_html(decision).decode()
    assert "The champion could not be ranked" in page and "no comparison was made" not in page
    assert "--force" in next_step(decision)


def test_a_version_that_the_machine_was_too_busy_to_check_is_not_judged_rather_than_held() -> None:
    decision = hold_unranked(unranked(LoadCheck.interrupted("its process did not end within 720 s")), SETTINGS)
    assert decision.outcome == "not judged" and decision.broken is None
    assert len(decision.reasons) == 1 and "did not end within 720 s. This says nothing about the version" in decision.reasons[0]
    assert {rule.verdict for rule in decision.rules} == {"not judged"}
    page, text = render_html(decision).decode(), render_markdown(decision)
    assert "Not judged" in page and text.startswith("## \N{EN DASH} Not judged: ranker new")
    assert "old stays champion" in next_step(decision) and "`recsys model promote new --set model_name=ranker`" in next_step(
        decision
    )
    notice = decision_notice(decision, {})
    assert notice.event == "recsys.gate.not-judged" and notice.subject.endswith("new: not judged")


def test_the_summary_of_a_held_challenger_says_whether_a_gain_could_have_been_seen() -> None:
    unproven = decide(inputs(ranking(0.37, 3), ranking(0.4)), SETTINGS)
    assert "would usually go undetected" in summary(unproven) and "does not prove that the two are equal" in summary(unproven)
    alike = decide(inputs(ranking(0.4), ranking(0.4)), SETTINGS)
    assert summary(alike) == "The challenger ranks all 600 requests exactly as the champion does."
    worse = decide(inputs(ranking(0.2, 3), ranking(0.4)), SETTINGS)
    assert "below the champion's" in summary(worse) and "undetected" not in summary(worse)
    png = comparison_png(alike)
    assert png is not None and png.startswith(b"\x89PNG")


def test_a_zero_difference_has_no_minus_sign_and_a_p_value_has_no_exponent() -> None:
    alike = decide(inputs(ranking(0.4), ranking(0.4), HALVES), SETTINGS)
    page = render_html(alike).decode()
    assert "-0.0000" not in page and "+0.0000 to +0.0000" in page
    rule = Rule(1, "beats ncf", 9.999e-05, 0.05, "p <", "passed", "")
    assert (rule.shown_figure, rule.shown_bound) == ("0.0001", "p < 0.05")
    assert (
        Rule(2, "", None, None, "", "not applicable", "").shown_figure,
        Rule(4, "", 0.90715, 0.99, "<=", "passed", "").shown_figure,
    ) == ("", "0.9072")


def test_a_rule_that_passed_blames_nothing() -> None:
    first = inputs(ranking(0.4), ranking(0.37, 3), HALVES)
    recorded = replace(first, challenger=replace(first.challenger, recorded=ranking(0.4)))
    passed = {rule.name: rule.detail for rule in decide(recorded, SETTINGS).rules if rule.verdict == "passed"}
    assert passed["the champion has not seen the holdout"].endswith("the maximum is 1.0%.")
    assert passed["ranks as recorded"].endswith("the maximum is 1.0%.")
    edited = replace(first, challenger=replace(first.challenger, recorded=ranking(0.2, 9)))
    failed = [rule.detail for rule in decide(edited, SETTINGS).rules if rule.name == "ranks as recorded"]
    assert failed[0].endswith("Weights and ranks come from different models, or were edited.")


def test_differences_account_for_every_request() -> None:
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4), HALVES), SETTINGS)
    found = decision.differences
    assert found is not None and found.better + found.worse + found.tied == USERS == decision.requests
    assert sum(found.counts) == found.better + found.worse
    overall, *parts = decision.comparisons
    assert overall.name == "all requests" and [part.name for part in parts] == list(HALVES)
    mean = sum(part.difference * part.requests for part in parts) / USERS
    assert abs(mean - overall.difference) < 1e-9 and overall.ci_low <= overall.difference <= overall.ci_high
    assert all(part.ci_low <= part.difference <= part.ci_high for part in parts)


def test_what_a_person_decided_is_on_the_page() -> None:
    waiting = decide(inputs(ranking(0.4)), replace_settings(approval="manual"))
    assert b'class="badge needs"' in render_html(waiting)
    approved = replace(waiting, outcome="promoted", approval=Approval(True, "ada", "looks right", "2026-01-01T00:00:00+00:00"))
    said = "Approved by ada at 2026-01-01T00:00:00+00:00: looks right."
    assert said in render_html(approved).decode() and said in render_markdown(approved)


def test_each_verdict_says_what_to_do_next_with_the_command_for_it() -> None:
    promoted = decide(inputs(ranking(0.4)), SETTINGS)
    other = f"--set model_name={promoted.model_name}"
    assert f"`recsys model rollback {other}` returns to an earlier version" in next_step(promoted)
    held = decide(inputs(ranking(0.2, 3), ranking(0.4), HALVES), SETTINGS)
    assert f"{held.champion} stays champion" in next_step(held)
    assert f"`recsys model promote {held.challenger} {other} --force --reason WHY`" in next_step(held)
    waiting = replace(promoted, outcome="needs approval", model_name="movie-ranker")
    assert f"`recsys model promote {promoted.challenger}`." in next_step(waiting)
    first = replace(unranked(LoadCheck.failed("it has no weights")), champion=None, champion_number=0)
    broken = hold_unranked(first, SETTINGS)
    assert "cannot be forced" in next_step(broken) and "--force" not in next_step(broken)
    for decision in (promoted, held, waiting, broken):
        assert f"**Next:** {next_step(decision)}" in render_markdown(decision)


def test_a_yes_or_no_is_not_shown_as_a_number() -> None:
    asked = Rule(4, "finite weights", 1.0, 1.0, "==", "passed", "")
    assert (asked.shown_figure, asked.shown_bound) == ("yes", "yes")
    assert replace(asked, figure=0.0).shown_figure == "no"
    counted = Rule(4, STEPS, 0.0, 0.0, "==", "passed", "")
    assert (counted.shown_figure, counted.shown_bound) == ("0", "== 0")


def test_a_decision_with_a_rule_of_earlier_days_is_still_shown() -> None:
    promoted = decide(inputs(ranking(0.7), ranking(0.4)), SETTINGS)
    assert STEPS not in [rule.name for rule in promoted.rules], "such a step ends the training, so no version could fail"
    old = replace(promoted, rules=[*promoted.rules, Rule(4, STEPS, 0.0, 0.0, "==", "passed", "0 training steps.")])
    assert STEPS in render_html(old).decode()
