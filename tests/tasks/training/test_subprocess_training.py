"""What a training in another process leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.errors import TrainingError
from models.recommender import OnEpoch
from tasks.training import run_apart
from tasks.training import subprocess_training as module
from tests.infra.test_lifeline import ended

KILLED = """
import os, signal
from tasks.training import subprocess_training as module
from tests.tasks.training.test_subprocess_training import halved
module.{step} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
module.run_apart(halved, 8, trains="a number", on_epoch=None, threads=1, if_killed="")
"""
IN_A_THREAD = """
import sys, threading, time
from pathlib import Path
from tasks.training import run_apart
from tests.tasks.training.test_subprocess_training import work_of_a_child
given = {"trains": "a number", "on_epoch": None, "threads": 1, "if_killed": ""}
threading.Thread(target=run_apart, args=(work_of_a_child, Path(sys.argv[1]), False), kwargs=given).start()
time.sleep(600)
"""
SILENCE_S = 45.0  # longer than a busy machine takes to import torch


def halved(number: int, on_epoch: OnEpoch | None) -> float:
    return number / 2


def refused(on_epoch: OnEpoch | None) -> None:
    raise ZeroDivisionError("by zero")


def gone(on_epoch: OnEpoch | None) -> None:
    os._exit(0)


def work_of_a_child(pids: Path, dies: bool, on_epoch: OnEpoch | None) -> None:
    """Fork a child that goes on for ever, as a pool of a plugin does, and wait for it or be killed."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    pids.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    pids.with_suffix(".new").replace(pids)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    child.join()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_training_is_gone_when_the_result_or_the_error_is_there(temporary: Path) -> None:
    assert run_apart(halved, 8, trains="a number", on_epoch=None, threads=1, if_killed="") == 4
    assert not list(temporary.iterdir())
    with pytest.raises(RuntimeError, match="by zero"):
        run_apart(refused, trains="a number", on_epoch=None, threads=1, if_killed="")
    assert not list(temporary.iterdir())


@pytest.mark.full
def test_a_process_that_ends_well_without_a_result_is_one_sentence(temporary: Path) -> None:
    with pytest.raises(TrainingError, match="ended with status 0 without reporting an error"):
        run_apart(gone, trains="a number", on_epoch=None, threads=1, if_killed="")


@pytest.mark.full
def test_a_remover_that_is_missing_or_killed_leaves_no_folder_either(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "REMOVE", "raise SystemExit(1)")
        with pytest.raises(RuntimeError, match="by zero"):
            run_apart(refused, trains="a number", on_epoch=None, threads=1, if_killed="")
    assert not list(temporary.iterdir())
    monkeypatch.setattr(module.sys, "executable", str(temporary / "none"))
    with pytest.raises(FileNotFoundError):
        run_apart(halved, 8, trains="a number", on_epoch=None, threads=1, if_killed="")
    assert not list(temporary.iterdir())


@pytest.mark.full
@pytest.mark.parametrize("step", ["_follow", "_first_failure"], ids=["before the training", "after the training"])
def test_a_parent_that_is_killed_leaves_no_folder(step: str, temporary: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", KILLED.format(step=step)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    end, left = time.monotonic() + 180, True
    while left and time.monotonic() < end:
        left = any(temporary.iterdir())
        time.sleep(0.05)
    assert not left


def wait_for(pids: Path, seconds: float) -> None:
    """Wait until the processes have ended."""
    end = time.monotonic() + seconds
    while not all(ended(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < end, pids.read_text()
        time.sleep(0.1)


@pytest.mark.full
@pytest.mark.parametrize(
    ("dies", "said"),
    [(False, f"reported no epoch for {SILENCE_S:g} s"), (True, "ended with status -9 without reporting an error")],
)
def test_a_child_that_a_training_leaves_behind_ends_with_it_and_nobody_waits_for_it(
    dies: bool, said: str, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pids = tmp_path_factory.mktemp("pids") / "pids"
    with pytest.raises(TrainingError, match=said):
        run_apart(work_of_a_child, pids, dies, trains="a number", on_epoch=None, threads=1, if_killed="", silence_s=SILENCE_S)
    wait_for(pids, 10)


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_training_ends_with_the_process_group_that_waits_for_it(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    pids = tmp_path / "pids"
    waiting = subprocess.Popen([sys.executable, "-c", IN_A_THREAD, str(pids)], env=environment, start_new_session=True)
    try:
        while not pids.exists():
            assert waiting.poll() is None
            time.sleep(0.1)
        os.killpg(waiting.pid, number)
        wait_for(pids, 60)
        assert waiting.wait(60) != 0
    finally:
        waiting.kill()
        waiting.wait()
