from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prefect import flow

from tasks.monitoring import DriftResult
from tasks.monitoring.checks import Check
from tasks.stages import announce_drift
from tasks.stages import data as stages


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


@pytest.mark.parametrize(("retrains", "event"), [(True, "recsys.drift.detected"), (False, "recsys.drift.without_data")])
def test_a_refused_delivery_or_a_silent_feed_alerts_people_and_starts_no_retraining(
    retrains: bool, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append(event))
    moved = {"effect": 0.9, "bound": 0.15, "p_value": 0.0005, "adjusted_p": 0.006, "verdict": "drifted"}
    checks = [Check("quarantine", "change", retrains=False, **moved), Check("rating", "distance", retrains=retrains, **moved)]

    @flow
    def run() -> None:
        announce_drift(replace(result("drifted"), checks=checks))

    run()
    assert told == [event]
