"""A person answers the form of a paused run, through the API that the UI uses."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
from prefect.flow_runs import resume_flow_run

from configs.settings import RetrainSettings
from flows.challenge import approval
from flows.etl import etl
from flows.promote import promote
from flows.retrain import RetrainSummary, retrain
from flows.train import train
from infra.registry import ModelRegistry
from infra.storage import open_store
from tests.flows.conftest import QUICK

Make = Callable[..., RetrainSettings]


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "POLL_S", 1)


def manual(make_settings: Make, wait_s: int) -> RetrainSettings:
    return make_settings(promotion={**QUICK["promotion"], "approval": "manual", "approval_wait_s": wait_s})


def answered(
    settings: RetrainSettings, *answers: dict[str, Any], meanwhile: Callable[[], object] = lambda: None
) -> RetrainSummary:
    """Run `settings` while someone answers the forms in order. `meanwhile` is called before the first answer."""
    failures: list[BaseException] = []
    over = threading.Event()

    def answer_form() -> None:
        try:
            paused = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Paused"])))
            end = time.monotonic() + 900
            for number, answer in enumerate(answers):
                with get_client(sync_client=True) as client:
                    while not (runs := client.read_flow_runs(flow_run_filter=paused)):
                        assert time.monotonic() < end and not over.is_set(), f"the run never paused for answer {number}"
                        time.sleep(0.5)
                if number == 0:
                    meanwhile()
                resume_flow_run(runs[0].id, run_input=answer)
        except BaseException as error:
            failures.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(answer_form))
    thread.start()
    try:
        summary = retrain(settings)
    finally:
        over.set()
        thread.join()
    assert failures == []
    return summary


@pytest.mark.full
def test_an_approved_challenger_is_promoted_and_the_log_says_by_whom(make_settings: Make) -> None:
    settings = manual(make_settings, 900)
    summary = answered(settings, {"approve": True, "who": "ada", "note": "the page looks right"})
    store = open_store(settings.store)
    registry = ModelRegistry(store)
    entry = registry.history(settings.model_name)[-1]
    assert summary.promoted and entry.version == summary.version.version
    assert entry.reason == "passed the gate, approved by ada: the page looks right"
    assert registry.decision(summary.version)["outcome"] == "needs approval", "a sealed record was changed"
    records = [key for key in store.list(f"decisions/{settings.model_name}/{summary.version.version}/") if key.endswith(".json")]
    kept = json.loads(store.get(records[0]))
    assert (kept["outcome"], kept["approval"]["who"]) == ("promoted", "ada")


@pytest.mark.full
def test_an_approval_that_loses_a_race_is_asked_for_again_against_the_new_champion(make_settings: Make) -> None:
    lax = {"rule": "non-inferior", "margin": 1.0, "slice_margin": 1.0, "approval": "manual", "approval_wait_s": 900}
    settings = make_settings(promotion={**QUICK["promotion"], **lax})
    name, registry = settings.model_name, ModelRegistry(open_store(settings.store))
    etl(settings.data, settings.validation, settings.store, settings.etl, settings.landing)
    ss4rec = settings.models.ss4rec.model_copy(update={"max_epochs": 1})
    other = train(settings.model_copy(update={"models": settings.models.model_copy(update={"ss4rec": ss4rec})}))

    def force_the_other() -> None:
        registry.promote(name, other.version, expected=0, kind="force", reason="meanwhile", now=datetime.now(UTC))

    answers = [{"approve": True, "who": "ada", "note": "first"}, {"approve": True, "who": "bob", "note": "again"}]
    summary = answered(settings, *answers, meanwhile=force_the_other)
    entries = registry.history(name)
    assert [entry.version for entry in entries] == [other.version, summary.version.version]
    assert entries[1].reason == "passed the gate, approved by bob: again" and entries[1].decision["champion"] == other.version
    assert summary.promoted and summary.decision.approval is not None and summary.decision.approval.who == "bob"
    kept = [decision for _, decision in registry.later_decisions(name, summary.version.version)]
    assert [(each["outcome"], each["champion"]) for each in kept] == [
        ("needs approval", other.version), ("promoted", other.version)
    ], "a promotion was recorded that did not happen"  # fmt: skip


@pytest.mark.full
def test_a_rejected_challenger_is_held_with_the_reason(make_settings: Make) -> None:
    settings = manual(make_settings, 900)
    summary = answered(settings, {"approve": False, "who": "ada", "note": "wait for the licence"})
    assert not summary.promoted and summary.decision.reasons == ["ada rejected it: wait for the licence."]
    assert ModelRegistry(open_store(settings.store)).champion(settings.model_name) is None


@pytest.mark.full
def test_without_an_answer_the_challenger_waits_for_the_command(make_settings: Make) -> None:
    settings = manual(make_settings, 1)
    summary = retrain(settings)
    assert summary.decision.outcome == "needs approval" and not summary.promoted
    entry = promote(
        summary.version.version, settings.model_name, "seen by ada", promotion=settings.promotion, store=settings.store
    )
    assert entry.kind == "promote" and entry.reason == "passed the gate: seen by ada" and "@" in entry.who
