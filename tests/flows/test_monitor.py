from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from configs.settings import StoreSettings
from infra.registry import ModelRegistry
from infra.storage import open_store
from infra.storage.local import LocalStore
from tasks.monitoring import DriftResult
from tasks.monitoring.checks import Check
from tasks.stages import announce_drift
from tasks.stages import data as stages
from tests.tasks.stored import NOW, sealed

MOVED: dict[str, Any] = {"effect": 0.9, "bound": 0.15, "p_value": 0.0005, "adjusted_p": 0.006, "verdict": "drifted"}


def result(verdict: Any) -> DriftResult:
    checks = [
        Check("rating", "distance", effect=0.9, bound=0.15, p_value=0.0005, adjusted_p=0.006, verdict="drifted"),
        Check("volume", "times", verdict="not judged", detail="no window"),
    ]
    return DriftResult(
        verdict=verdict,
        reasons=["rating moved."],
        rows=5000,
        users=40,
        first=0,
        last=1,
        reference_rows=1,
        reference_users=1,
        unseen_user_share=0.5,
        alpha=0.01,
        checks=checks,
        model_name="movie-ranker",
        dataset="ml-100k/abc",
    )


@pytest.mark.parametrize("verdict", ["drifted", "stable", "too small to judge"])
def test_only_drift_is_announced_with_its_figures(verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append({"event": event, **details}))

    @flow
    def run() -> None:
        announce_drift(result(verdict))

    run()
    if verdict != "drifted":
        assert told == []
        return
    assert len(told) == 1 and told[0]["event"] == "recsys.drift.detected"
    assert told[0]["resource"]["prefect.resource.id"] == "recsys.model.movie-ranker"
    payload = told[0]["payload"]
    assert payload["drifted"] == ["rating"] and payload["checks"] == {"rating": {"effect": 0.9, "bound": 0.15, "p_value": 0.006}}
    assert payload["dataset"] == "ml-100k/abc" and payload["champion"] is None and payload["live_ndcg_at_10"] is None


def test_drift_of_data_that_the_champion_knows_informs_people_and_starts_no_retraining(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append(event))
    settings = StoreSettings(url=f"file:{tmp_path}")
    registry = ModelRegistry(open_store(settings))
    ref = sealed(LocalStore(tmp_path), tmp_path / "made")
    registry.promote(ref.name, ref.version, expected=0, reason="first", now=NOW)

    @flow
    def run(dataset: str) -> None:
        announce_drift(replace(result("drifted"), model_name=ref.name, dataset=dataset), settings)

    run(ref.dataset)
    run(f"{ref.dataset}0")
    assert told == ["recsys.drift.without_data", "recsys.drift.detected"]


@pytest.mark.parametrize(("retrains", "event"), [(True, "recsys.drift.detected"), (False, "recsys.drift.without_data")])
def test_a_refused_delivery_or_a_silent_feed_alerts_people_and_starts_no_retraining(
    retrains: bool, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append(event))
    checks = [Check("quarantine", "change", retrains=False, **MOVED), Check("rating", "distance", retrains=retrains, **MOVED)]

    @flow
    def run() -> None:
        announce_drift(replace(result("drifted"), checks=checks))

    run()
    assert told == [event]
