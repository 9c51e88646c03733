"""One plan over everything that grows: what is old goes, what somebody may still need stays, and planning deletes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from configs.settings import LandingSettings, RetentionSettings, RolloutSettings
from infra.registry import ModelRegistry, begin_rollout
from infra.storage.local import LocalStore
from tasks.retention import RetentionPlan, apply_retention, plan_retention
from tests.tasks.stored import NAME, NOW, sealed

TODAY = datetime(2028, 2, 29, 5, 10, tzinfo=UTC)
SETTINGS = RetentionSettings(keep_days=365, keep_pages=2, keep_versions=1, keep_champions=0, keep_exports=1)
LANDING = LandingSettings(keep_versions=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def exports(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "exports")


def planned(store: LocalStore, tmp_path: Path, exports: LocalStore | None = None, now: datetime = TODAY) -> RetentionPlan:
    return plan_retention(store, SETTINGS, LANDING, now, exports=exports, work_dir=tmp_path / "work")


def put(store: LocalStore, *keys: str) -> None:
    for key in keys:
        store.put(key, b"{}")


def test_logs_of_servers_stay_for_as_many_days_as_are_kept(store: LocalStore, tmp_path: Path) -> None:
    days = {age: f"{TODAY - timedelta(days=age):%Y%m%d}" for age in (0, 364, 365, 366, 900)}
    for area in ("exposures", "outcomes"):
        put(store, *(f"{area}/{day}/{day}T000000Z-host-1-0.jsonl" for day in days.values()))
    put(store, "exposures/of-others/notes.txt", "erasures/5.json", "erasures/done/5/20200101T000000Z.json")
    plan = planned(store, tmp_path)
    assert len(list(store.list())) == 13, "planning deleted something"
    apply_retention(store, plan, SETTINGS)
    kept = [days[0], days[364], days[365]]
    for area in ("exposures", "outcomes"):
        assert sorted(key.split("/")[1] for key in store.list(f"{area}/") if "others" not in key) == sorted(kept)
    assert store.exists("exposures/of-others/notes.txt")
    assert sum(1 for _ in store.list("erasures/")) == 2, "a backup would bring the user back"
    assert planned(store, tmp_path).dated == {}, "a second plan finds more"


def test_figures_of_the_last_looks_stay_even_of_a_subject_that_has_been_silent_for_years(
    store: LocalStore, tmp_path: Path
) -> None:
    put(store, *(f"drift/silent/v/2020010{day}T000000000000Z.{kind}" for day in (1, 2, 3) for kind in ("json", "html")))
    put(
        store, *(f"due/{NAME}/202802{day}T000000000000Z.json" for day in range(10, 29)), f"due/{NAME}/20260101T000000000000Z.json"
    )
    apply_retention(store, planned(store, tmp_path), SETTINGS)
    assert sorted(store.list("drift/")) == [
        f"drift/silent/v/2020010{day}T000000000000Z.{kind}" for day in (2, 3) for kind in ("html", "json")
    ]
    assert sum(1 for _ in store.list("due/")) == 19


def test_pages_of_a_rollout_go_by_age_but_never_of_one_that_is_under_way(store: LocalStore, tmp_path: Path) -> None:
    old, new = (sealed(store, tmp_path / f"m{hour}", hour=hour) for hour in range(2))
    ModelRegistry(store).promote(NAME, old.version, expected=0, reason="first", now=NOW)
    begin_rollout(store, new, RolloutSettings(enabled=True), expected=1, reason="better", now=NOW, decision={})
    put(store, f"rollouts/{NAME}/00000001/report.html", f"rollouts/{NAME}/00000002/report.html")
    plan = planned(store, tmp_path, now=NOW + timedelta(days=366))
    assert plan.dated == {"rollouts/": [f"rollouts/{NAME}/00000001/report.html"]}
    assert planned(store, tmp_path, now=NOW + timedelta(days=300)).dated == {}


def test_the_newest_complete_exports_stay(store: LocalStore, exports: LocalStore, tmp_path: Path) -> None:
    names = [f"202802{day}T050000Z-{'0' * 12}" for day in (20, 21, 22, 29)]
    for name in names[:3]:
        put(exports, f"{NAME}/{name}/top.parquet", f"{NAME}/{name}/manifest.json")
    put(exports, f"{NAME}/{names[3]}/top.parquet", f"{NAME}/20280101T050000Z-{'1' * 12}/top.parquet", f"{NAME}/own-notes/x")
    exports.put(f"{NAME}/latest.json", json.dumps({"export": names[0]}).encode())
    plan = planned(store, tmp_path, exports)
    assert plan.exports[0].endswith("/manifest.json") or plan.exports[-1].endswith("top.parquet")
    apply_retention(store, plan, SETTINGS, exports=exports)
    left = {key.split("/")[1] for key in exports.list()}
    assert left == {names[0], names[2], names[3], "own-notes", "latest.json"}, (
        "one that may go on, or that is the latest, is gone"
    )


def test_versions_of_every_model_go_and_champions_stay(store: LocalStore, tmp_path: Path) -> None:
    versions = [sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(4)]
    ModelRegistry(store).promote(NAME, versions[0], expected=0, reason="", now=NOW)
    plan = planned(store, tmp_path)
    assert plan.models[NAME].versions == versions[1:3] and plan.said.startswith("2 model versions")
    assert {row.area: row.number for row in plan.rows(SETTINGS, LANDING)}["models"] == 2
    assert apply_retention(store, plan, SETTINGS) == []
    assert [ref.version for ref in ModelRegistry(store).versions(NAME)] == [versions[0], versions[3]]
