from __future__ import annotations

import json
import logging

import pytest

from infra.registry import PAGE, ModelRegistry
from tasks.evaluation import REPORT_FILE
from tasks.evaluation import evidently_page as recsys_report
from tasks.gate import judge_staged, publish, record_decision
from tasks.gate import page as decision_page
from tests.tasks.world import NAME, World, evaluated


def test_a_decision_whose_page_cannot_be_drawn_is_sealed_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decision_page, "TEMPLATE", "tasks/gate/templates/no-such-page.html")
    staged = world.stage()
    decision = judge_staged(world.store, staged, "ss4rec", world.newer, world.settings)
    with caplog.at_level(logging.WARNING):
        ref = publish(world.store, staged, decision, world.candidates[-1], world.evaluation, world.settings)
        assert record_decision(world.store, ref, decision) is None
    assert PAGE not in ModelRegistry(world.store).manifest(NAME, ref.version)["files"]
    assert ModelRegistry(world.store).decision(ref) == json.loads(json.dumps(decision.to_dict()))
    assert [key.rpartition(".")[2] for key in world.store.list(f"decisions/{NAME}/{ref.version}/")] == ["json"]
    assert caplog.text.count("The decision's page could not be drawn") == 2 and "TemplateNotFound" in caplog.text


def test_an_evaluation_whose_page_cannot_be_drawn_has_all_its_figures(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recsys_report, "_draw", lambda *_: "<html>another version's page</html>")
    (world.folder / REPORT_FILE).unlink()
    found, assembled = evaluated(world.store, world.newer, world.candidates, world.settings)
    assert REPORT_FILE not in assembled.files and found.metrics == world.evaluation.metrics
    assert "The page of the recommendations could not be drawn" in caplog.text and "has no data in its head" in caplog.text
