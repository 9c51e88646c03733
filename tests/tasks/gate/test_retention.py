from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from configs.errors import NotFoundError
from configs.serving import ExperimentFile
from configs.settings import RetentionSettings
from infra.leases import leased
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.gate import ModelPrunePlan, plan_model_prune, prune_models, served_versions
from tests.tasks.stored import NAME, NOW, sealed

FEW = RetentionSettings(keep_versions=1, keep_champions=1, keep_pages=1, keep_runs=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def versions(store: LocalStore, tmp_path: Path) -> list[str]:
    """Seven versions, of which the first four were champions, one after the other."""
    found = [sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(7)]
    for number, version in enumerate(found[:4]):
        ModelRegistry(store).promote(NAME, version, expected=number, reason="", now=NOW)
    return found


def planned(store: LocalStore, tmp_path: Path, *files: ExperimentFile) -> ModelPrunePlan:
    return plan_model_prune(store, NAME, FEW, served_versions(files), tmp_path / "work")


def test_old_versions_go_with_all_that_belongs_to_them(store: LocalStore, versions: list[str], tmp_path: Path) -> None:
    for version in versions:
        for folder in ("decisions", "runs", "audits"):
            store.put(f"{folder}/{NAME}/{version}/1.json", b"{}")
    arms = [{"name": "a"}, {"name": "b", "version": versions[5]}]
    file = ExperimentFile.model_validate({"experiments": [{"name": "ab", "arms": arms}], "shadow": [{"version": versions[1]}]})
    before = sorted(store.list())
    plan = planned(store, tmp_path, file)
    assert sorted(store.list()) == before, "planning deleted something"
    assert plan.kept == {
        versions[1]: "a shadow",
        versions[2]: "among the last 1 champions before it",
        versions[3]: "the champion",
        versions[5]: "in the experiment ab",
        versions[6]: "among the newest 1",
    }
    assert prune_models(store, plan, FEW, served_versions([file])) == []
    left = set(store.list())
    gone = [versions[0], versions[4]]
    assert plan.versions == gone and left == {key for key in before if not any(version in key for version in gone)}
    registry = ModelRegistry(store)
    assert [ref.version for ref in registry.versions(NAME)] == list(plan.kept)
    assert len(registry.history(NAME)) == 4
    registry.rollback(NAME, to=None, reason="", now=NOW, check=lambda ref: None)
    with pytest.raises(NotFoundError, match=f"There is no version {versions[0]}"):
        registry.rollback(NAME, to=versions[0], reason="", now=NOW, check=lambda ref: None)


def test_a_version_that_a_run_uses_stays_even_if_the_run_began_after_the_plan(
    store: LocalStore, versions: list[str], tmp_path: Path
) -> None:
    with leased(store, "a judgement", [f"models/{NAME}/{versions[0]}"]):
        assert planned(store, tmp_path).kept[versions[0]].startswith("used by a judgement (process ")
    plan = planned(store, tmp_path)
    registry = ModelRegistry(store)
    registry.rollback(NAME, to=versions[1], reason="", now=NOW, check=lambda ref: None)
    with leased(store, "a judgement", [f"models/{NAME}/{versions[0]}"]):
        assert prune_models(store, plan, FEW, {}) == sorted(versions[:2])
    for version in versions[:2]:
        registry.verify(registry.version(NAME, version))
    assert not [key for key in store.list() if key.endswith("pruned.json")]


def test_a_version_that_is_being_deleted_cannot_become_champion(store: LocalStore, versions: list[str]) -> None:
    store.put(f"models/{NAME}/{versions[0]}/pruned.json", b"{}")
    with pytest.raises(NotFoundError, match="is being deleted"):
        ModelRegistry(store).rollback(NAME, to=versions[0], reason="", now=NOW, check=lambda ref: None)
    assert len(ModelRegistry(store).history(NAME)) == 4


def test_what_killed_runs_and_killed_prunings_left_is_deleted(store: LocalStore, versions: list[str], tmp_path: Path) -> None:
    store.put(f"models/{NAME}/{versions[6]}/pruned.json", b"{}")  # the newest: it is kept now
    store.delete(f"models/{NAME}/{versions[4]}/manifest.json")  # killed just after the manifest
    young = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{'0' * 32}"  # of a run that has not sealed it yet
    store.put(f"models/{NAME}/{young}/model.safetensors", b"")
    plan = planned(store, tmp_path)
    assert plan.unsealed == [versions[4]] and plan.passing == [f"models/{NAME}/{versions[6]}/pruned.json"]
    prune_models(store, plan, FEW, {})
    assert not [key for key in store.list() if versions[4] in key or key.endswith("pruned.json")]
    assert store.exists(f"models/{NAME}/{young}/model.safetensors")


def test_old_drift_pages_and_run_folders_go_and_figures_stay(store: LocalStore, tmp_path: Path) -> None:
    for stamp, version in (("20260101T000000000000Z", "b"), ("20260102T000000000000Z", "a")):
        for kind in ("json", "html", "evidently.html"):
            store.put(f"drift/small/{version}/{stamp}.{kind}", b"{}")
    runs = tmp_path / "work" / "wandb"
    for day in (1, 2, 3):
        folder = runs / f"offline-run-2026010{day}_000000-abc"
        folder.mkdir(parents=True)
        if day < 3:
            os.utime(folder, (0, 0))
    (runs / "latest-run").symlink_to(folder)
    plan = planned(store, tmp_path)
    assert [Path(each).name for each in plan.folders] == ["offline-run-20260101_000000-abc", "offline-run-20260102_000000-abc"]
    prune_models(store, plan, FEW, {})
    assert list(store.list()) == [
        "drift/small/a/20260102T000000000000Z.evidently.html",
        "drift/small/a/20260102T000000000000Z.html",
        "drift/small/a/20260102T000000000000Z.json",
        "drift/small/b/20260101T000000000000Z.json",
    ]
    assert sorted(path.name for path in runs.iterdir()) == ["latest-run", "offline-run-20260103_000000-abc"]
