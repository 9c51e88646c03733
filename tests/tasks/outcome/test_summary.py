"""Three questions about a run have their answers, and the summary has all that a person looks for."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest

from tasks.evaluation import LoadCheck
from tasks.gate import Approval, Decision
from tasks.gate.rules import decide, hold_unranked
from tasks.outcome import Cost, answers_of, cost_answer, data_answer, headline_figures, summary_markdown, verdict_answer
from tests.tasks.gate.test_page import unranked
from tests.tasks.gate.test_rules import SETTINGS, inputs, ranking, replace_settings
from tests.tasks.outcome.made import DATASET, drift, retraining

VERSION = "20261129T121055Z-5dd250d8f15f8fc94abc9f194a1e8d1b"


@pytest.fixture(scope="module")
def held() -> Decision:
    return replace(decide(inputs(ranking(0.2, 3), ranking(0.4)), SETTINGS), challenger=VERSION)


def test_the_verdict_says_why_with_both_figures(held: Decision) -> None:
    overall = held.comparisons[0]
    said = verdict_answer(held)
    assert f"NDCG@10 {overall.challenger:.4f} against the champion's {overall.champion:.4f}" in said
    assert said.endswith("It is held by 1 rule: better than the champion.")
    first = decide(inputs(ranking(0.4)), SETTINGS)
    assert "no champion to compare it with" in verdict_answer(first)
    waiting = decide(inputs(ranking(0.4)), replace_settings(approval="manual"))
    assert "waits for a person's approval" in verdict_answer(waiting)
    approval = Approval(True, "ada", "", "2026-01-01")
    assert verdict_answer(replace(waiting, outcome="promoted", approval=approval)).endswith("ada approved it.")
    rejected = replace(waiting, outcome="held", approval=replace(approval, approved=False))
    assert verdict_answer(rejected).startswith("ada rejected it.")
    busy = hold_unranked(unranked(LoadCheck.interrupted("its process did not end")), SETTINGS)
    assert "says nothing about the version" in verdict_answer(busy) and headline_figures(busy) == "not judged"


def test_the_data_is_all_right_unless_it_drifted() -> None:
    made = retraining(decide(inputs(ranking(0.4)), SETTINGS))
    assert answers_of(made).data.startswith(
        "The data is all right: 2,000 events of 80 users until 2001-09-09, 50 of 2,050 delivered"
    )
    assert answers_of(made).data.endswith("no drift.")
    assert data_answer(DATASET, drift("too small to judge", 0), None).endswith("nothing is new since the champion was trained.")
    assert "7 new events are too few" in data_answer(DATASET, drift("too small to judge", 7), None)
    assert data_answer(DATASET, drift("drifted"), None).startswith("The data has changed")


def test_the_cost_is_money_if_machines_were_rented_and_time_otherwise() -> None:
    assert cost_answer(Cost(65.0, device="cpu")) == "No machine was rented. The run took 65.0 s on this one (cpu)."
    rented = cost_answer(Cost(600.0, 0.25, "pod a (1 x L4) for 3.0 min at $1.00 an hour", remote=True))
    assert rented == "It cost $0.25: pod a (1 x L4) for 3.0 min at $1.00 an hour. The run took 10.0 min."
    assert "unknown" in cost_answer(Cost(1.0, remote=True)), "a pool without accounts is not free"


def test_the_summary_has_the_answers_the_curve_the_rules_and_what_to_do_next(held: Decision) -> None:
    made = retraining(held)
    text = summary_markdown(made, "- [The decision](http://pages/report.html)")
    assert text.startswith("## ✗ Held: ranker 20261129T121055Z\n")
    for question in (
        "Was it promoted?** No.",
        "Is the data all right?** Yes: 2,000 events",
        "What did it cost?**",
        "What next?** Old stays champion",
    ):
        assert f"**{question}" in text
    assert "[The decision](http://pages/report.html)" in text and "### Against the champion" in text
    (picture,) = re.findall(r"\]\(data:image/png;base64,([^)]+)\)", text)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert text.count(VERSION) == 2, "the complete name stands once in the table, and once in the command to copy"
