"""Somebody who can write to the store edits, exchanges or forges what is stored. This is noticed without a signature.

One forgery cannot be noticed: a newest entry of the promotion log that names a complete version. Whoever may write it may promote.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from configs.errors import (
    ChampionMissingError,
    NotFoundError,
    RecsysError,
    StoreError,
    StoreUnavailableError,
    VersionCorruptError,
)
from configs.settings import PromotionSettings
from infra.registry import Lineage, ModelRef, ModelRegistry, fetch_files, file_digests
from infra.registry.versions import DECISION
from infra.storage.local import LocalStore
from infra.version_names import shortened
from tasks.evaluation import load_check
from tasks.evaluation.load_check import SAMPLE_FILE
from tasks.gate import champion_notice, roll_back
from tasks.gate.rollback import refuse_broken
from tests.tasks.stored import NAME, NOW, sealed
from tests.tasks.world import edit_json
from tests.volume import volume

Change = Callable[[dict[str, Any]], Any]
OTHER = "0" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three versions, each of which became champion after the one before."""
    root = tmp_path_factory.mktemp("registry")
    store = LocalStore(root / "store")
    for hour in range(3):
        version = sealed(store, root / f"m{hour}", hour=hour).version
        ModelRegistry(store).promote(NAME, version, expected=hour, reason="better", now=NOW)
    return root / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> LocalStore:
    return LocalStore(Path(shutil.copytree(made, tmp_path / "store")))


def accept(ref: ModelRef) -> None:
    """Let the check pass."""


def manifest_of(store: LocalStore, ref: ModelRef) -> Path:
    return store.folder / ref.prefix / "manifest.json"


def content(files: dict[str, str]) -> str:
    """Return the digest in a version's name, by its definition."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["files"].update({"model.safetensors": OTHER}), "does not name the files that the version was staged with"),
        (lambda m: m["files"].pop(SAMPLE_FILE), "does not name the files that the version was staged with"),
        (lambda m: m["files"].update({"more.json": OTHER}), "does not name the files that the version was staged with"),
        (lambda m: m["files"].pop(DECISION), "does not name the files that the version was staged with"),
        (lambda m: m.update(name="another"), "belongs to another"),
        (lambda m: m.update(version=m["version"].replace("2026", "2027")), "belongs to ranker 2027"),
        (lambda m: m["files"].update({"../../../outside": OTHER}), r"damaged \(files\.\.\./\.\./\.\./outside"),
        (lambda m: m["files"].update({"/etc/passwd": OTHER}), r"damaged \(files\./etc/passwd"),
        (lambda m: m["files"].update({"a/b": OTHER}), r"damaged \(files\.a/b"),
        (lambda m: m["files"].update({"model.safetensors": "abc"}), r"damaged \(files\.model\.safetensors: String should match"),
        (lambda m: m.pop("lineage"), r"damaged \(lineage: Field required"),
        (lambda m: m["lineage"].pop("dataset"), r"damaged \(lineage\.dataset: Field required"),
        (lambda m: m["lineage"].update(metrics={"hr@10": "good"}), r"damaged \(lineage\.metrics\.hr@10: Input should be a valid number"),
        (lambda m: m.update(format=1), r"damaged \(format"),
        (lambda m: m.update(more=1), r"damaged \(more: Extra inputs"),
    ],
)  # fmt: skip
def test_an_edited_manifest_is_refused_and_the_message_says_what_is_wrong(change: Change, said: str, store: LocalStore) -> None:
    registry = ModelRegistry(store)
    ref = registry.versions(NAME)[1]
    edit_json(manifest_of(store, ref), change)
    for use in (registry.version, registry.manifest):
        with pytest.raises(VersionCorruptError, match=said):
            use(NAME, ref.version)
    with pytest.raises(VersionCorruptError, match=said):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=accept)
    current = registry.champion(NAME)
    assert current is not None and current.number == 3 and len(registry.history(NAME)) == 3


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"[" * 200_000, b"\xff\xfe", b'{"format": 1e999}', b"NaN"])
def test_a_file_that_is_not_a_manifest_is_refused(text: bytes, store: LocalStore) -> None:
    registry = ModelRegistry(store)
    ref = registry.versions(NAME)[1]
    manifest_of(store, ref).write_bytes(text)
    with pytest.raises(VersionCorruptError, match="damaged"):
        registry.version(NAME, ref.version)


@pytest.mark.parametrize("file", ["manifest.json", DECISION])
def test_a_huge_object_is_not_read_as_a_manifest_or_a_decision(file: str, store: LocalStore) -> None:
    registry = ModelRegistry(store)
    ref = registry.versions(NAME)[1]
    with (store.folder / ref.prefix / file).open("wb") as sparse:
        sparse.truncate(100 << 30)
    with pytest.raises(StoreError, match=rf"{file} has more than 4,194,304 bytes"):
        registry.version(NAME, ref.version) and registry.decision(ref)


@pytest.mark.parametrize("version", ["../../promotions/ranker", "/etc", "", ".", "20260101T000000Z-32cda299", "a\nb", "é" * 300])
def test_a_version_whose_name_is_invalid_does_not_exist(version: str, store: LocalStore) -> None:
    registry = ModelRegistry(store)
    with pytest.raises(NotFoundError, match="There is no version"):
        registry.version(NAME, version)
    with pytest.raises(NotFoundError, match="There is no version"):
        registry.rollback(NAME, to=version or "-", reason="", now=NOW, check=accept)


@pytest.mark.parametrize("name", ["../../../outside", "..", "a/../../b", "/tmp/outside", ".hidden", "x\n", "x" * 101, ""])
def test_a_forged_version_with_a_matching_name_cannot_lead_out_of_its_folder(
    name: str, store: LocalStore, tmp_path: Path
) -> None:
    """The forger has also put the digest of the forged files into the version's name."""
    registry = ModelRegistry(store)
    good = registry.manifest(NAME, registry.versions(NAME)[0].version)
    payload = hashlib.sha256(b"payload").hexdigest()
    files = {name: payload}
    version = f"20260102T000000Z-{content(files)}"
    forged = {**good, "version": version, "files": {**files, DECISION: payload}}
    store.put(f"models/{NAME}/{version}/manifest.json", json.dumps(forged).encode())
    with pytest.raises(VersionCorruptError, match=r"damaged \(files"):
        registry.promote(NAME, version, expected=3, reason="", now=NOW)
    with pytest.raises((ValueError, VersionCorruptError)):
        fetch_files(store, f"models/{NAME}/{version}", files, tmp_path / "deep" / "copy")
    assert not (tmp_path / "outside").exists() and len(registry.history(NAME)) == 3


def test_a_manifest_cannot_be_exchanged_with_that_of_another_version(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    first, second, _ = registry.versions(NAME)
    shutil.copy(manifest_of(store, first), manifest_of(store, second))
    with pytest.raises(VersionCorruptError, match=f"belongs to {NAME} {first.version}: it was overwritten"):
        registry.version(NAME, second.version)


def test_links_in_a_local_store_lead_nowhere(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    first, second, third = registry.versions(NAME)
    weights = store.folder / second.prefix / "model.safetensors"
    weights.unlink()
    weights.symlink_to("/etc/hostname")
    with pytest.raises(VersionCorruptError, match=r"model\.safetensors differs"):
        registry.verify(second)
    shutil.rmtree(store.folder / first.prefix)
    (store.folder / first.prefix).symlink_to(store.folder / third.prefix)
    with pytest.raises(VersionCorruptError, match="it was overwritten"):
        registry.rollback(NAME, to=first.version, reason="", now=NOW, check=accept)


def test_an_edited_decision_is_not_shown(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    ref = registry.versions(NAME)[1]
    edit_json(store.folder / ref.prefix / DECISION, lambda decision: decision.update(outcome="held"))
    with pytest.raises(VersionCorruptError, match=r"decision\.json differs"):
        registry.decision(ref)
    store.delete(f"{ref.prefix}/{DECISION}")
    with pytest.raises(VersionCorruptError, match=r"lacks the file decision\.json"):
        registry.decision(ref)


@pytest.mark.parametrize("change", [lambda m: m.update(outcome="held"), lambda m: m["lineage"].update(seed=1, dataset="x/y")])
def test_the_promotion_log_protects_what_the_version_name_does_not_protect(change: Change, store: LocalStore) -> None:
    registry = ModelRegistry(store)
    second, third = registry.versions(NAME)[1:]
    edit_json(manifest_of(store, second), change)
    with pytest.raises(VersionCorruptError, match="is not the one recorded by promotion 2"):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=accept)
    edit_json(manifest_of(store, third), change)
    with pytest.raises(VersionCorruptError, match=r"is not the one recorded by promotion 3.*recsys model rollback --to"):
        registry.champion(NAME)
    first = registry.versions(NAME)[0].version
    assert registry.rollback(NAME, to=first, reason="the others were edited", now=NOW, check=accept).number == 4


@given(data=st.data())
@hypothesis_settings(max_examples=volume(60, 150), deadline=None)
def test_no_byte_of_the_champions_manifest_or_of_the_log_before_it_can_change(made: Path, data: st.DataObject) -> None:
    store = LocalStore(made)
    registry = ModelRegistry(store)
    current = registry.champion(NAME)
    assert current is not None
    key = data.draw(st.sampled_from([f"models/{NAME}/{current.version}/manifest.json", *list(store.list("promotions/"))[:-1]]))
    before = store.get(key)
    place = data.draw(st.integers(0, len(before) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != before[place]))
    path = store.folder / key
    path.write_bytes(before[:place] + bytes([byte]) + before[place + 1 :])
    try:
        with pytest.raises(VersionCorruptError):
            registry.champion(NAME)
            registry.history(NAME)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda log: edit_json(log / "00000002.json", lambda e: e.update(reason="?")), "entry 3 does not carry the digest of the stored entry 2"),
        (lambda log: (log / "00000002.json").unlink(), "an entry 3 but no entry 2"),
        (lambda log: shutil.copy(log / "00000003.json", log / "00000009.json"), "an entry 9 but no entry 4"),
        (lambda log: shutil.copy(log / "00000002.json", log / "00000003.json"), "contains entry 2 of ranker: it was overwritten"),
        (lambda log: edit_json(log / "00000003.json", lambda e: e.update(name="another")), "contains entry 3 of another"),
        (lambda log: edit_json(log / "00000003.json", lambda e: e.update(kind="gift")), r"damaged \(kind"),
        (lambda log: (log / "00000003.json").write_bytes(b"[" * 100_000), "damaged"),
    ],
)  # fmt: skip
def test_an_edited_promotion_log_is_refused(spoil: Callable[[Path], object], said: str, store: LocalStore) -> None:
    registry = ModelRegistry(store)
    spoil(store.folder / "promotions" / NAME)
    with pytest.raises(VersionCorruptError, match=said):
        registry.history(NAME)
    with pytest.raises(VersionCorruptError, match=said):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=accept)


def test_other_objects_beside_the_log_and_the_versions_are_ignored(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    versions, entries = registry.versions(NAME), registry.history(NAME)
    for key in ("promotions/ranker/zzz.json", "promotions/ranker/00000004.json~", "promotions/ranker/old/00000009.json"):
        store.put(key, b"{}")
    for key in ("models/ranker/latest/manifest.json", f"{versions[0].prefix}/copy/manifest.json", "models/ranker/manifest.json"):
        store.put(key, b"{}")
    assert registry.versions(NAME) == versions and registry.history(NAME) == entries
    assert registry.promote(NAME, versions[0].version, expected=3, reason="", now=NOW).number == 4


def test_an_entry_is_never_written_past_the_end_of_the_log(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    with pytest.raises(NotFoundError):
        registry.promote(NAME, registry.versions(NAME)[0].version, expected=7, reason="", now=NOW)
    assert len(registry.history(NAME)) == 3


def test_a_version_that_was_never_champion_cannot_be_rolled_back_to(store: LocalStore, tmp_path: Path) -> None:
    """Otherwise a rollback would be a way around the gate."""
    registry = ModelRegistry(store)
    held = sealed(store, tmp_path / "m", hour=9, outcome="held")
    with pytest.raises(ChampionMissingError, match=rf"{held.version} was never champion.*recsys model promote {held.version}"):
        registry.rollback(NAME, to=held.version, reason="", now=NOW, check=accept)
    assert len(registry.history(NAME)) == 3


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"other"), r"model\.safetensors differs from its manifest"),
        (lambda folder: (folder / SAMPLE_FILE).write_text("[]"), r"sample_requests\.json differs from its manifest"),
        (lambda folder: (folder / "config.json").unlink(), r"lacks the file config\.json"),
        (lambda folder: (folder / "vocabulary.parquet").write_bytes(b""), r"vocabulary\.parquet differs from its manifest"),
        (lambda folder: (folder / DECISION).write_text("{}"), r"decision\.json differs from its manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "There is no version"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "damaged"),
        (lambda folder: shutil.rmtree(folder), "There is no version"),
    ],
)
def test_a_rollback_does_not_return_to_a_damaged_earlier_champion(
    damage: Callable[[Path], object], said: str, store: LocalStore
) -> None:
    registry = ModelRegistry(store)
    first, second, _ = registry.versions(NAME)
    damage(store.folder / second.prefix)
    settings = PromotionSettings()
    with pytest.raises(RecsysError, match=said):
        roll_back(store, NAME, None, "", settings)
    assert [entry.number for entry in registry.history(NAME)] == [1, 2, 3]
    back = registry.rollback(NAME, to=first.version, reason="", now=NOW, check=accept)
    assert back.version == first.version and back.number == 4


def test_a_rollback_is_checked_in_a_clean_process_before_it_takes_effect(store: LocalStore, tmp_path: Path) -> None:
    registry = ModelRegistry(store)
    settings = PromotionSettings()
    first = registry.versions(NAME)[0]

    def check(ref: ModelRef) -> None:
        refuse_broken(store, ref, settings)
        assert len(registry.history(NAME)) == 3

    assert registry.rollback(NAME, to=first.version, reason="", now=NOW, check=check).version == first.version
    # This version was broken when it was sealed, and was promoted by force: every digest is correct, but it does not answer.
    folder = tmp_path / "m"
    shutil.copytree(store.folder / first.prefix, folder)
    (folder / DECISION).unlink()
    (folder / "manifest.json").unlink()
    save_file({"counts": load_file(folder / "model.safetensors")["counts"] * float("nan")}, folder / "model.safetensors")
    staged = registry.stage(NAME, folder, NOW, file_digests(folder))
    lineage = Lineage(**registry.manifest(NAME, first.version)["lineage"])
    broken = registry.seal(staged, {"outcome": "held", "reasons": []}, replace(lineage, seed=1), NOW)
    registry.promote(NAME, broken.version, expected=4, kind="force", reason="a mistake", now=NOW)
    registry.rollback(NAME, to=None, reason="mended", now=NOW, check=accept)
    with pytest.raises(
        VersionCorruptError, match=r"cannot be rolled back to: the stored weights are not finite.*champion is unchanged"
    ):
        roll_back(store, NAME, broken.version, "", settings)
    assert len(registry.history(NAME)) == 6


def test_a_rollback_is_never_refused_because_the_version_or_the_machine_is_slow(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ModelRegistry(store)
    first, second, _ = registry.versions(NAME)
    entry = roll_back(store, NAME, first.version, "", PromotionSettings(max_request_s=1e-9, max_load_s=1e-9))
    assert entry.version == first.version and len(entry.warnings) == 2
    assert "promotion.max_load_s allows 1e-09 s" in entry.warnings[0] and "promotion.max_request_s" in entry.warnings[1]
    assert registry.history(NAME)[-1].warnings == entry.warnings, "the log has other warnings"
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    monkeypatch.setattr(load_check.sys, "executable", str(python))
    monkeypatch.setattr(load_check, "START_S", 0.2)
    monkeypatch.setattr(load_check, "WAIT_S", 0.2)
    monkeypatch.setattr(load_check, "PATIENCE", 0)
    back = roll_back(store, NAME, second.version, "", PromotionSettings(max_load_s=0.1))
    assert back.version == second.version and "was not checked: its process did not end" in back.warnings[0]
    body = champion_notice(back, {}).body
    assert f"Warning: {second.version} was not checked" in body


@pytest.mark.full
def test_the_command_rolls_back_without_prefect_and_without_torch_in_its_process(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    program = (
        "import sys; from flows.cli.main import app\n"
        "sys.argv = ['recsys', 'model', 'rollback', '--set', f'store.url=file:{sys.argv[1]}', '--set', f'model_name={sys.argv[2]}', "
        "'--set', 'promotion.max_load_s=1e-9']\n"
        "app(standalone_mode=False)\n"
        "print(sorted({'torch', 'prefect', 'pandas'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(store.folder), NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    second = registry.versions(NAME)[1].version
    assert done.stdout.splitlines() == [
        shortened(
            f"{NAME} {second} is champion (promotion 4, rollback); the previous champion was {registry.history(NAME)[2].version}"
        ),
        "[]",
    ]
    assert done.stderr.startswith("warning: Loading the stored version took ") and "promotion.max_load_s" in done.stderr


class LostAnswer(LocalStore):
    """A store that writes a promotion and then does not answer."""

    def put_new(self, key: str, data: bytes | Path) -> None:
        super().put_new(key, data)
        if key.startswith("promotions/"):
            raise StoreUnavailableError("no answer")


def test_a_rollback_whose_answer_was_lost_is_not_repeated(store: LocalStore) -> None:
    """A second try would return to the champion that was just left."""
    registry = ModelRegistry(store)
    second = registry.versions(NAME)[1].version
    with pytest.raises(StoreError, match=rf"may have taken effect.*recsys model rollback --to {second}") as raised:
        ModelRegistry(LostAnswer(store.folder)).rollback(NAME, to=None, reason="", now=NOW, check=accept)
    assert not isinstance(raised.value, StoreUnavailableError)
    current = registry.champion(NAME)
    assert current is not None and current.version == second
    with pytest.raises(ChampionMissingError, match="is the champion already"):
        registry.rollback(NAME, to=second, reason="", now=NOW, check=accept)
