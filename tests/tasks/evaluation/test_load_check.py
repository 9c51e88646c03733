from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from configs.settings import PromotionSettings
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.evaluation import check_staged, check_version, load_check
from tasks.evaluation.load_check import SAMPLE_FILE, check_loaded
from tests.tasks.stored import NAME, NOW, sealed, stage_popularity

SETTINGS = PromotionSettings()


def test_a_sound_version_passes_in_a_clean_process(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    check = check_version(store, sealed(store, tmp_path / "m"), SETTINGS)
    assert check.ok and check.reason == "" and check.finite_weights and check.score_deviation == 0.0
    assert check.load_s is not None and check.request_s is not None and check.request_s > 0
    json.dumps(check.to_dict())


def test_edited_weights_are_refused_by_their_hash(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    store.put(f"{ref.prefix}/model.safetensors", b"other")
    check = check_version(store, ref, SETTINGS)
    assert not check.ok and "model.safetensors differs" in check.reason and check.load_s is None


@pytest.mark.parametrize(
    ("change", "reason"), [("nan", "weights are not finite"), ("other", "differently from the trained model")]
)
def test_weights_that_answer_differently_are_refused(change: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    stage_popularity(LocalStore(tmp_path / "store"), folder)
    weights = load_file(folder / "model.safetensors")["counts"]
    weights[0] = float("nan") if change == "nan" else 1e6
    save_file({"counts": weights}, folder / "model.safetensors")
    check = check_loaded(folder)
    assert not check.ok and reason in check.reason and check.finite_weights is (change != "nan")


def test_weights_that_are_all_nan_are_reported_as_not_finite(tmp_path: Path) -> None:
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
    check = check_staged(store, ModelRegistry(store).stage(NAME, tmp_path / "m", NOW), SETTINGS)
    assert check.ok and not (tmp_path / "ran").exists()


def test_a_version_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    stage_popularity(store, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model": "something"}')
    check = check_staged(store, ModelRegistry(store).stage(NAME, tmp_path / "m", NOW), SETTINGS)
    assert not check.ok and "unknown kind 'something'" in check.reason


def python_that(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the clean process run a shell script instead."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(load_check.sys, "executable", str(python))


def test_a_machine_that_is_too_busy_says_nothing_about_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    python_that("exec sleep 600", tmp_path, monkeypatch)
    monkeypatch.setattr(load_check, "START_S", 0.2)
    monkeypatch.setattr(load_check, "WAIT_S", 0.2)
    monkeypatch.setattr(load_check, "PATIENCE", 0)
    tries, run = [], load_check.subprocess.run
    monkeypatch.setattr(load_check.subprocess, "run", lambda *args, **options: (tries.append(1), run(*args, **options))[1])
    check = check_version(store, ref, PromotionSettings(max_load_s=0.1))
    assert not check.ok and check.cut_off and check.finite_weights is None and "the machine was too busy" in check.reason
    assert len(tries) == 2, "the check is tried again"


@pytest.mark.full
def test_a_check_that_is_cut_off_once_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    real = load_check.sys.executable
    script = f'if [ -e {tmp_path}/tried ]; then exec {real} "$@"; fi; touch {tmp_path}/tried; kill -9 $$'
    python_that(script, tmp_path, monkeypatch)
    assert check_version(store, ref, SETTINGS).ok


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(24, 'Too many open files')"])
def test_a_machine_without_memory_or_files_says_nothing_about_the_version(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    program = (
        f"import sys; sys.argv = sys.argv[-4:]; sys.path.insert(0, {str(Path(load_check.__file__).parents[2])!r})\n"
        "from tasks.evaluation import load_check\n"
        f"def check(folder, patience_s): raise {error}\n"
        "load_check.check_loaded = check\n"
        "load_check._main()\n"
    )
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(load_check, "ATTEMPTS", 1)
    python_that(f'exec {load_check.sys.executable} {tmp_path}/program.py "$@"', tmp_path, monkeypatch)
    check = check_version(store, ref, SETTINGS)
    assert check.cut_off and not check.ok and "its process" in check.reason


def answering_in(cost: Callable[[int], float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the CPU clock advance by `cost(number)` with each answer, and stand still otherwise."""
    clock, real = [0.0, -1], load_check._scores

    def scores(model: Any, request: Any) -> Any:
        clock[0] += cost(int(clock[1]))  # -1 is the warm-up
        clock[1] += 1
        return real(model, request)

    monkeypatch.setattr(load_check, "_scores", scores)
    monkeypatch.setattr(load_check, "_cpu_s", lambda: clock[0])


def test_waiting_for_the_machine_does_not_count_as_time_for_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_popularity(LocalStore(tmp_path / "store"), tmp_path / "m")
    real = load_check._scores

    def delayed(model: Any, request: Any) -> Any:
        time.sleep(0.2)
        return real(model, request)

    monkeypatch.setattr(load_check, "_scores", delayed)
    check = check_loaded(tmp_path / "m")
    assert check.ok and check.request_s is not None and check.request_s < 0.1


def test_the_median_request_counts_and_a_slow_one_is_answered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_popularity(LocalStore(tmp_path / "store"), tmp_path / "m")  # with five sample requests
    answering_in(lambda number: 30.0 if number in (-1, 1, 3) else 0.25, monkeypatch)
    assert check_loaded(tmp_path / "m").request_s == 0.25, "two of five were disturbed"
    answering_in(lambda number: 30.0 if number % 2 == 0 else 0.25, monkeypatch)
    check = check_loaded(tmp_path / "m", patience_s=1.0)
    assert check.request_s == 0.25, "every request was disturbed once"
    answering_in(lambda number: 30.0, monkeypatch)
    slow = check_loaded(tmp_path / "m", patience_s=1.0)
    assert slow.ok and slow.reason == "" and slow.request_s == 30.0, "slowness does not make the answers wrong"
