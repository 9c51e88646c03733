from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np

from tasks.decision import Approval
from tasks.decision_page import comparison_png, render_html, render_markdown, summary
from tasks.gate import decide, hold_unranked
from tasks.load_check import LoadCheck
from tests.tasks.test_gate import SETTINGS, USERS, inputs, ranking, replace_settings

HALVES = {"new users": np.arange(USERS) < 300, "others": np.arange(USERS) >= 300}


def test_the_page_says_the_verdict_every_reason_and_every_rule() -> None:
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
    assert "data:image/png;base64," in page and "src=" in page and "http" not in page.replace("http-equiv", "")
    assert "new users" in text and f"{decision.comparisons[1].detectable:.4f}" in text


def test_names_from_outside_cannot_write_into_the_page() -> None:
    decision = replace(decide(inputs(ranking(0.4)), SETTINGS), dataset="<script>alert(1)</script>")
    assert b"<script>" not in render_html(decision) and b"&lt;script&gt;" in render_html(decision)


def test_a_first_model_has_no_comparison_to_draw() -> None:
    decision = decide(inputs(ranking(0.4)), SETTINGS)
    assert comparison_png(decision) is None and "no champion to compare" in summary(decision)
    assert b"<img" not in render_html(decision)


def test_a_version_that_could_not_be_ranked_has_a_page_too() -> None:
    decision = hold_unranked(
        model_name="ranker", dataset="small/abc", protocol="loo-exact", requests=9, challenger="new", champion="old",
        champion_number=1, check=LoadCheck.failed("it did not load"), settings=SETTINGS,
    )  # fmt: skip
    page = render_html(decision).decode()
    assert "compared with nothing" in page and "it did not load" in page and "How well" not in page


def test_a_held_challenger_is_told_whether_a_gain_could_have_been_seen() -> None:
    unproven = decide(inputs(ranking(0.37, 3), ranking(0.4)), SETTINGS)
    assert "would mostly go unseen" in summary(unproven) and "no proof that the two are equal" in summary(unproven)
    alike = decide(inputs(ranking(0.4), ranking(0.4)), SETTINGS)
    assert summary(alike) == "The challenger ranks every one of the 600 requests as the champion does."
    worse = decide(inputs(ranking(0.2, 3), ranking(0.4)), SETTINGS)
    assert "below the champion's" in summary(worse) and "unseen" not in summary(worse)
    png = comparison_png(alike)
    assert png is not None and png.startswith(b"\x89PNG")


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
