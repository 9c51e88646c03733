from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from configs.serving import DemoSettings, ExposureSettings
from infra.registry import ModelRegistry
from serving.experiments import ExposureLog
from tasks.monitoring import DriftResult
from tasks.monitoring.checks import Check
from tests.serving.live import experiment, lived
from tests.tasks.world import NAME, World, make_world


def measured(drifted: bool) -> DriftResult:
    """A measurement of drift as the pipeline stores it."""
    effect, verdict = (0.3, "drifted") if drifted else (0.05, "stable")
    checks = [
        Check("rating", "distance", 3.5, 3.1, effect, 0.1, 0.08, 0.001, 0.004, verdict, "rating has moved."),  # type: ignore[arg-type]
        Check("freshness", "age", detail="the reference does not tell"),
    ]
    return DriftResult(
        verdict=verdict, reasons=["rating has moved."] if drifted else [], rows=200, users=20, first=0, last=1, reference_rows=1000,
        reference_users=100, unseen_user_share=0.05, alpha=0.05, checks=checks,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, DemoSettings]:
    """A store with two promoted versions, measured drift, rules, and an experiment that has ended."""
    root = tmp_path_factory.mktemp("demo")
    world = make_world(root / "world")
    second = world.seal(world.stage())
    ModelRegistry(world.store).promote(NAME, second.version, expected=1, reason="better", now=datetime.now(UTC))
    for hour, drifted in ((1, False), (2, True)):
        key = f"drift/{world.newer.name}/{world.newer.version}/20260101T{hour:02d}0000000000Z"
        world.store.put_new(f"{key}.json", json.dumps(measured(drifted).to_dict()).encode())
    world.store.put_new(f"{key}.html", b"<h1>Drift of the newest slice</h1>")
    rules = {"rules": [{"name": "comedies first", "action": "boost", "where": {"genres": ["Comedy"]}, "by": 0.3}]}
    (root / "rules.yaml").write_text(yaml.safe_dump(rules))
    made = experiment()
    exposures, outcomes = lived(made)
    log = ExposureLog(ExposureSettings(folder=root / "log"))
    for each in exposures:
        log.write(each)
    log.close(60)
    outcomes.to_csv(root / "outcomes.csv", index=False)
    file = {"experiments": [made.model_dump(mode="json")], "shadow": [{"version": "v9", "share": 0.1}]}
    (root / "experiments.yaml").write_text(yaml.safe_dump(file))
    return world, DemoSettings.model_validate(
        {
            "model_name": NAME,
            "store": {"url": f"file:{world.store.folder}"},
            "rules": root / "rules.yaml",
            "experiments": root / "experiments.yaml",
            "exposures": root / "log",
            "outcomes": root / "outcomes.csv",
            "work_dir": root / "work",
            "refresh_s": 0,
        }
    )


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit puts its script in the place of `__main__`, and processes that are spawned later would look for it there."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def settings(lively: tuple[World, DemoSettings]) -> DemoSettings:
    return lively[1]


@pytest.fixture
def empty(settings: DemoSettings, tmp_path: Path) -> DemoSettings:
    """Settings of a store that holds nothing."""
    return settings.model_copy(update={"store": settings.store.model_copy(update={"url": f"file:{tmp_path}/empty"})})
