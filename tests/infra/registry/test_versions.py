from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, NotFoundError, StoreUnavailableError, VersionCorruptError
from infra.registry import Lineage, ModelRegistry, file_digests, lineage, machine_facts
from infra.storage.local import LocalStore
from tests.tasks.stored import NAME, NOW, sealed, stage_popularity

LINEAGE = Lineage("popularity", "small/abc", "loo-exact", 0, {}, {"ndcg@10": 0.1}, 1.0, None, **machine_facts())


def test_a_version_exists_once_it_is_sealed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    staged = stage_popularity(store, tmp_path / "staged")
    assert registry.versions(NAME) == []
    with pytest.raises(NotFoundError, match="recsys model list"):
        registry.version(NAME, staged.version)
    ref = sealed(store, tmp_path / "model", hour=1)
    assert registry.versions(NAME) == [ref] and registry.version(NAME, ref.version) == ref
    assert ref.version.startswith("20260101T010000Z-") and ref.metrics["hr@10"] == 0.2
    assert registry.decision(ref)["outcome"] == "promoted"


def test_the_manifest_holds_the_lineage_and_each_files_sha256(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry, ref = ModelRegistry(store), sealed(store, tmp_path / "model")
    manifest = registry.manifest(NAME, ref.version)
    lineage = manifest["lineage"]
    assert lineage["packages"]["torch"] and lineage["hardware"]["cores"] and lineage["python"].startswith("3.")
    assert lineage["cost"] is None and lineage["dataset"] == "small/abc"
    assert set(manifest["files"]) == {
        "config.json",
        "decision.json",
        "model.safetensors",
        "sample_requests.json",
        "vocabulary.parquet",
    }
    folder = registry.fetch(ref, tmp_path / "copy")
    assert {path.name for path in folder.iterdir()} == set(manifest["files"])


def test_versions_are_listed_oldest_first_and_never_overwritten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    refs = [sealed(store, tmp_path / f"m{hour}", hour=hour) for hour in (2, 0, 1)]
    assert [ref.version for ref in registry.versions(NAME)] == sorted(ref.version for ref in refs)
    with pytest.raises(AlreadyExistsError):
        registry.stage(NAME, tmp_path / "m0", NOW)


def test_files_that_serve_take_the_place_of_the_judged_ones_only_where_they_are_asked_for(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry, staged = ModelRegistry(store), stage_popularity(store, tmp_path / "judged")
    refit = tmp_path / "refit"
    refit.mkdir()
    (refit / "model.safetensors").write_bytes(b"refit")
    (refit / "refit.json").write_text("{}")
    added = registry.stage_serving(staged, refit, file_digests(refit))
    assert registry.stage_serving(staged, refit, file_digests(refit)) == added, "the call can be repeated"
    ref = registry.seal(added, {"outcome": "promoted", "reasons": []}, LINEAGE, NOW)
    assert ref.version == staged.version
    judged, serving = registry.fetch(ref, tmp_path / "a"), registry.fetch(ref, tmp_path / "b", serving=True)
    assert (judged / "model.safetensors").read_bytes() == (tmp_path / "judged" / "model.safetensors").read_bytes()
    assert (serving / "model.safetensors").read_bytes() == b"refit" and not (judged / "refit.json").exists()
    assert {path.name for path in serving.iterdir()} == {path.name for path in judged.iterdir()} | {"refit.json"}
    store.put(f"{ref.prefix}/serving/model.safetensors", b"other")
    with pytest.raises(VersionCorruptError, match=r"serving/model\.safetensors differs"):
        registry.promote(NAME, ref.version, expected=0, reason="edited", now=NOW)


class Interrupted(LocalStore):
    """A store that once does not answer when the manifest is written: before the write, or after it."""

    def __init__(self, folder: Path, *, after: bool) -> None:
        super().__init__(folder)
        self.after, self.interrupted = after, False

    def put_new(self, key: str, data: bytes | Path) -> None:
        if key.endswith("manifest.json") and not self.interrupted:
            self.interrupted = True
            if self.after:
                super().put_new(key, data)
            raise StoreUnavailableError("no answer")
        super().put_new(key, data)


@pytest.mark.parametrize("after", [False, True])
def test_sealing_can_be_repeated_after_a_store_that_did_not_answer(after: bool, tmp_path: Path) -> None:
    store = Interrupted(tmp_path / "store", after=after)
    registry = ModelRegistry(store)
    staged = stage_popularity(store, tmp_path / "m")
    lineage = Lineage(
        kind="x", dataset="a/b", protocol="p", seed=0, settings={}, metrics={}, duration_s=0, cost=None, **machine_facts()
    )
    decision = {"outcome": "held", "reasons": []}
    with pytest.raises(StoreUnavailableError):
        registry.seal(staged, decision, lineage, NOW)
    ref = registry.seal(staged, decision, lineage, NOW + timedelta(seconds=9))
    assert registry.versions(NAME) == [ref] and ref.outcome == "held"
    with pytest.raises(AlreadyExistsError):
        registry.seal(staged, {"outcome": "promoted", "reasons": []}, lineage, NOW)


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_the_message_names_a_file_that_differs_from_the_sealed_one(fault: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "model")
    key = f"{ref.prefix}/model.safetensors"
    store.delete(key)
    if fault == "changed":
        store.put(key, b"other weights")
    with pytest.raises(VersionCorruptError, match=r"model\.safetensors"):
        ModelRegistry(store).fetch(ref, tmp_path / "copy")


def test_the_message_says_that_the_manifest_is_damaged(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "model")
    store.put(f"{ref.prefix}/manifest.json", b"{")
    with pytest.raises(VersionCorruptError, match="damaged"):
        ModelRegistry(store).version(NAME, ref.version)


def test_lineage_is_recorded_without_a_repository_or_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "__file__", str(tmp_path / "registry" / "lineage.py"))
    (tmp_path / "registry").mkdir()
    monkeypatch.setattr(lineage, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = lineage.machine_facts()
    assert found["git_commit"] is None and list(found["packages"]) == ["torch"]


def test_a_commit_is_marked_if_files_were_modified_but_not_for_what_the_program_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("code", "results"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("before")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(lineage, "__file__", str(tmp_path / "code" / "lineage.py"))
    commit = lineage.git_commit()
    assert commit is not None and len(commit) == 40
    (tmp_path / "results" / "file").write_text("after")
    assert (lineage.git_commit(), lineage.git_commit(["results"])) == (f"{commit}+", commit)
    (tmp_path / "code" / "file").write_text("after")
    assert lineage.git_commit(["results"]) == f"{commit}+"
