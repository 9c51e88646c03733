from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.registry import Promotion
from tasks.gate import Approval, champion_notice, decision_notice
from tasks.gate.notifications import LONGEST
from tasks.gate.rules import decide
from tests.tasks.gate.test_rules import SETTINGS, USERS, inputs, ranking

LINKS = {"decision": "s3://bucket/p/models/ranker/v/report.html", "version": "s3://bucket/p/models/ranker/v"}
HALVES = {"new users": np.arange(USERS) < 300, "others": np.arange(USERS) >= 300}


def test_the_notice_of_a_held_challenger_has_its_reasons_figures_and_links() -> None:
    decision = decide(inputs(ranking(0.2, 3), ranking(0.4), HALVES), SETTINGS)
    notice = decision_notice(decision, LINKS)
    assert notice.event == "recsys.gate.held" and notice.subject == f"{decision.model_name} {decision.challenger}: held"
    for reason in decision.reasons[:6]:
        assert f"- {reason}" in notice.body
    for model in ("challenger", "champion"):
        assert f"{model}: HR@10 {decision.metrics[model]['hr@10']:.4f}" in notice.body
    assert notice.body.endswith(f"decision: {LINKS['decision']}\nversion: {LINKS['version']}")
    assert json.loads(json.dumps(notice.payload()))["figures"]["reasons"] == decision.reasons


def test_a_notice_that_asks_for_approval_differs_from_one_that_reports_it() -> None:
    decision = decide(inputs(ranking(0.4)), SETTINGS)
    asked = decision_notice(replace(decision, outcome="needs approval"), LINKS)
    assert asked.event == "recsys.gate.approval-needed" and "a person has the last word" in asked.body
    approved = replace(decision, outcome="promoted", approval=Approval(True, "ada", "", "2026-01-01T00:00:00+00:00"))
    assert "Approved by ada." in decision_notice(approved, LINKS).body
    rejected = replace(
        approved, outcome="held", reasons=["ada rejected it."], approval=replace(approved.approval, approved=False)
    )  # type: ignore[type-var]
    assert (
        "Approved" not in decision_notice(rejected, LINKS).body and "- ada rejected it." in decision_notice(rejected, LINKS).body
    )


@pytest.mark.parametrize(("kind", "event"), [("rollback", "recsys.champion.rolled-back"), ("force", "recsys.champion.forced")])
def test_the_notice_of_a_forced_or_rolled_back_champion_says_who_did_it_and_why(kind: str, event: str) -> None:
    entry = Promotion(3, "ranker", "new", "old", kind, "it was worse", "ada@desk", "now", "0", None)  # type: ignore[arg-type]
    notice = champion_notice(entry, {"version": "s3://b/v"})
    assert (
        notice.event == event
        and "By ada@desk: it was worse" in notice.body
        and "Previous champion: old. Promotion 3." in notice.body
    )


@given(st.lists(st.text(max_size=400), max_size=12), st.text(max_size=2000))
def test_a_message_is_never_too_long_and_keeps_its_links(reasons: list[str], link: str) -> None:
    decision = replace(decide(inputs(ranking(0.4)), SETTINGS), outcome="held", reasons=reasons)
    body = decision_notice(decision, {"decision": link}).body
    assert len(body) <= LONGEST
    assert f"decision: {link}"[:LONGEST].strip() in body
