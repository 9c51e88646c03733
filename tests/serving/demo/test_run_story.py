"""The story of a run says in plain words what its records say, for each way in which a run can end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.settings import DEFAULT_NOUNS, NounSettings
from infra.registry import ModelRef, Promotion
from serving.demo import Chapter, Records, drift_answer, tell

CHAMPION, VERSION = f"20260101T000000Z-{'a' * 32}", f"20260201T000000Z-{'b' * 32}"
REF = ModelRef(
    "movie-ranker",
    VERSION,
    "models/x",
    "file:x",
    "0",
    "2026-02-01T00:00:00+00:00",
    "ss4rec",
    "films/1",
    "loo-exact",
    "promoted",
    {},
)
COMPARED = {"requests": 500, "challenger": 0.12, "champion": 0.10, "difference": 0.02, "ci_low": 0.01, "ci_high": 0.03}
DATA = {
    "name": "films", "version": "1", "rows": 1000, "users": 10, "items": 20, "first": 0, "last": 86_400,
    "validation": {"tables": {"interactions": {"rows": 1010, "quarantined": 10}}},
}  # fmt: skip
STABLE = {"verdict": "stable", "reasons": [], "rows": 300, "checks": [1, 2], "champion": CHAMPION}


def entry(version: str, kind: Any = "promote", reason: str = "passed the gate") -> Promotion:
    return Promotion(1, REF.name, version, None, kind, reason, "ana@host", "2026-02-01T00:00:00+00:00", "", None)


def records(outcome: str = "promoted", *promoted: Promotion, **decision: Any) -> Records:
    return Records(
        ref=REF,
        lineage={"duration_s": 90.0, "cost": None, "hardware": {"cpu": "EPYC", "cores": 2, "gpus": []}},
        evaluation={
            "requests": 500,
            "metrics": {"popularity": {"all": {"hr@10": 0.08}}, "ss4rec": {"all": {"hr@10": 0.151}}},
            "training": {"popularity": {"seconds": 30.0}, "ss4rec": {"seconds": 210.0}},
        },
        decision={"outcome": outcome, "reasons": [], "champion": CHAMPION, **decision},
        dataset=DATA,
        before=DATA | {"version": "0", "rows": 900},
        newest=DATA,
        drift=STABLE,
        promotions=promoted,
        nouns=DEFAULT_NOUNS,
    )


def chapter(told: Records, question: str) -> Chapter:
    return next(each for each in tell(told) if question in each.question)


def said(found: Chapter) -> str:
    return " ".join([found.answer, *found.details])


def test_a_promoted_run_is_told_from_the_data_to_the_next_step() -> None:
    told = records("promoted", entry(CHAMPION), entry(VERSION), comparisons=[COMPARED])
    questions = [each.question for each in tell(told)]
    assert questions == [
        "What came in?", "Is the data all right?", "What was trained?", "Was it promoted, and why?", "What did it cost?",
        "What happens next?",
    ]  # fmt: skip
    assert said(chapter(told, "came in")) == (
        "1,000 ratings by 10 users of 20 films, from 1970-01-01 to 1970-01-02. That is 100 more than in the run before."
    )
    assert "10 of 1,010 rows were bad" in said(chapter(told, "all right"))
    assert "SS4Rec guessed it in 15.1 % of the requests, popularity in 8.0 %." in said(chapter(told, "trained"))
    verdict = chapter(told, "promoted")
    assert (verdict.mark, verdict.answer[:4]) == ("good", "Yes.") and "It looks better. On the same 500 requests" in said(verdict)
    assert (
        said(chapter(told, "cost"))
        == "No rented hardware was paid for. The training of all models took 4.0 min, on EPYC with 2 cores."
    )
    assert said(chapter(told, "next")) == (
        "Nothing needs to be done. Servers that follow the model load it by themselves. `recsys model rollback` returns to the champion "
        "before."
    )


def test_a_held_run_says_why_and_who_stays() -> None:
    told = records("held", entry(CHAMPION), reasons=[f"better than the champion {CHAMPION}: it is not."], warnings=["Slow."])
    verdict = chapter(told, "promoted")
    assert (verdict.mark, verdict.answer) == ("bad", "No. It did not pass a rule.")
    assert verdict.details == [
        "The rules that it did not pass:",
        "Better than the champion 20260101T000000Z: it is not.",
        "Warning: Slow.",
    ]
    sure = records("held", entry(CHAMPION), comparisons=[COMPARED], rules=[1, 2], reasons=["x"])
    assert "1 of the 2 rules" in said(chapter(sure, "promoted")) and "asks for more certainty" in said(chapter(sure, "promoted"))
    worse = records("held", entry(CHAMPION), comparisons=[COMPARED | {"ci_low": -0.03, "ci_high": -0.01}])
    assert "It is worse." in said(chapter(worse, "promoted"))
    luck = records("held", entry(CHAMPION), comparisons=[COMPARED | {"ci_low": -0.03}])
    assert "may be chance" in said(chapter(luck, "promoted"))
    assert chapter(told, "next").answer == "20260101T000000Z stays champion, and the next run tries again."
    assert "`recsys model show 20260201T000000Z`" in said(chapter(told, "next"))
    assert chapter(records("held"), "next").answer.startswith("There is still no champion")


def test_a_run_that_waits_a_forced_one_and_one_that_was_not_judged_are_told_apart() -> None:
    waits = records("needs approval", entry(CHAMPION))
    assert "waits for a person's approval" in said(chapter(waits, "promoted"))
    assert chapter(waits, "next").answer == "Somebody has to approve it. Until then, 20260101T000000Z stays champion."
    assert chapter(records("needs approval"), "next").answer.endswith("Until then, there is still no champion.")
    forced = records("held", entry(CHAMPION), entry(VERSION, "force", "the launch is today"), reasons=["It is worse."])
    assert "by a person against the gate: ana@host said 'the launch is today'" in said(chapter(forced, "promoted"))
    assert chapter(records("not judged"), "promoted").answer == "It was not judged."
    approved = records("promoted", entry(VERSION), approval={"approved": True, "who": "ana", "note": "looks good"})
    assert "ana approved it: looks good." in said(chapter(approved, "promoted"))


def test_a_version_that_was_replaced_says_by_which() -> None:
    told = records("promoted", entry(VERSION), entry(CHAMPION, "rollback"))
    assert chapter(told, "next").answer == "Another version has replaced it since: 20260101T000000Z is the champion."


def test_rented_hardware_has_its_price_and_newer_data_are_named() -> None:
    told = records("promoted", entry(VERSION))
    rented = replace(told, lineage={"duration_s": 9.0, "cost": 0.42, "hardware": {"gpus": ["H200", "H200"]}}, evaluation=None)
    assert said(chapter(rented, "cost")) == "$0.42 for rented hardware. The training of all models took 9.0 s, on H200."
    newer = replace(told, newest=DATA | {"version": "2", "rows": 1500})
    assert "The store has 500 newer ratings. `recsys retrain` trains on them." in said(chapter(newer, "next"))


def test_the_same_data_and_data_that_are_gone_are_said_to_be_so() -> None:
    told = records("promoted", entry(VERSION))
    assert "nothing new had come in" in said(chapter(replace(told, before=DATA), "came in"))
    assert chapter(replace(told, before=None), "came in").details == []
    gone = replace(told, dataset=None)
    assert "no longer has the data of this run, films/1" in said(chapter(gone, "came in"))


@pytest.mark.parametrize(
    ("drift", "mark", "words"),
    [
        (None, "open", "not compared"),
        (STABLE, "good", "Nothing has changed that matters"),
        (STABLE | {"verdict": "drifted", "reasons": ["rating has moved."]}, "bad", "rating has moved."),
        (STABLE | {"verdict": "too small to judge", "rows": 0}, "open", "nothing new since the champion was trained"),
        (STABLE | {"verdict": "too small to judge", "rows": 0, "champion": None}, "open", "too few new orders"),
        (STABLE | {"verdict": "too small to judge", "rows": 7, "reasons": ["7 rows."]}, "open", "too few new orders to tell. 7 rows."),
    ],
)  # fmt: skip
def test_drift_is_answered_in_a_sentence(drift: Any, mark: str, words: str) -> None:
    found, answer, details = drift_answer(drift, NounSettings(event="order", events="orders"))
    assert found == mark and words in " ".join([answer, *details])
