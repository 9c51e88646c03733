from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from configs.settings import PromotionSettings
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.evaluation import LoadCheck, check_staged, check_version, load_check
from tasks.evaluation.load_check import SAMPLE_FILE, check_loaded, with_time_limits
from tests.tasks.stored import NAME, NOW, sealed, stage_popularity

SETTINGS = PromotionSettings()
PATIENT = PromotionSettings(max_request_s=60)  # where a real process answers, and the machine may be busy


def test_a_sound_version_passes_in_a_clean_process(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    check = check_version(store, sealed(store, tmp_path / "m"), PATIENT)
    assert check.ok and check.reason == "" and check.finite_weights and check.score_deviation == 0.0
    assert check.load_s is not None and check.slowest_request_s is not None and check.slowest_request_s >= 0
    json.dumps(check.to_dict())


def test_edited_weights_are_refused_by_their_hash(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    store.put(f"{ref.prefix}/model.safetensors", b"other")
    check = check_version(store, ref, PATIENT)
    assert not check.ok and "model.safetensors differs" in check.reason and check.load_s is None


@pytest.mark.parametrize(
    ("change", "reason"), [("nan", "weights are not finite"), ("other", "differently from the trained model")]
)
def test_weights_that_answer_otherwise_are_refused(change: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    stage_popularity(LocalStore(tmp_path / "store"), folder)
    weights = load_file(folder / "model.safetensors")["counts"]
    weights[0] = float("nan") if change == "nan" else 1e6
    save_file({"counts": weights}, folder / "model.safetensors")
    check = check_loaded(folder)
    assert not check.ok and reason in check.reason and check.finite_weights is (change != "nan")


def test_weights_that_are_all_no_number_are_said_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    stage_popularity(LocalStore(tmp_path / "store"), folder)
    counts = load_file(folder / "model.safetensors")["counts"]
    save_file({"counts": counts * float("nan")}, folder / "model.safetensors")
    check = check_loaded(folder)
    assert not check.ok and not check.finite_weights and check.reason == "the stored weights are not finite"


@pytest.mark.parametrize("change", ["swapped", "renamed"])
def test_the_same_scores_for_other_items_are_refused(change: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    stage_popularity(LocalStore(tmp_path / "store"), folder)
    samples = json.loads((folder / SAMPLE_FILE).read_text())[:1]
    for sample in samples:
        sample["item_ids"], sample["timestamps"] = [], []
    vocabulary = pd.read_parquet(folder / "vocabulary.parquet")
    counts = load_file(folder / "model.safetensors")["counts"].numpy()
    order = np.argsort(-counts, kind="stable")
    samples[0]["top_items"] = vocabulary["item_id"].to_numpy()[order[:10]].tolist()
    samples[0]["top_scores"] = counts[order[:10]].tolist()
    (folder / SAMPLE_FILE).write_text(json.dumps(samples))
    assert check_loaded(folder).ok
    items = vocabulary["item_id"].to_numpy().copy()
    items[order[[0, -1]]] = items[order[[-1, 0]]] if change == "swapped" else [90_000, 90_001]
    vocabulary.assign(item_id=items).to_parquet(folder / "vocabulary.parquet", index=False)
    check = check_loaded(folder)
    assert not check.ok and "differently from the trained model" in check.reason


def test_code_stored_with_a_version_is_not_run(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    stage_popularity(store, tmp_path / "m")
    (tmp_path / "m" / "safetensors.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    check = check_staged(store, ModelRegistry(store).stage(NAME, tmp_path / "m", NOW), PATIENT)
    assert check.ok and not (tmp_path / "ran").exists()


def test_a_version_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    stage_popularity(store, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model": "something"}')
    check = check_staged(store, ModelRegistry(store).stage(NAME, tmp_path / "m", NOW), PATIENT)
    assert not check.ok and "unknown kind 'something'" in check.reason


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(load_check.sys, "executable", str(slow))
    monkeypatch.setattr(load_check, "START_S", 0.2)
    check = check_version(store, ref, PromotionSettings(max_load_s=0.1))
    assert not check.ok and "did not answer" in check.reason


def test_slow_loading_and_slow_answers_are_refused() -> None:
    good = LoadCheck(True, 1.0, 0.01, 0.0, True, "")
    assert with_time_limits(good, SETTINGS).ok
    assert "max_load_s" in with_time_limits(replace(good, load_s=100.0), SETTINGS).reason
    assert "max_request_s" in with_time_limits(replace(good, slowest_request_s=3.0), SETTINGS).reason
