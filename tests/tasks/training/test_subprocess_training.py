"""What a training in another process leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.recommender import OnEpoch
from tasks.training import run_apart
from tasks.training import subprocess_training as module

KILLED = """
import os, signal
from tasks.training import subprocess_training as module
from tests.tasks.training.test_subprocess_training import halved
module.{step} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
module.run_apart(halved, 8, trains="a number", on_epoch=None, threads=1, if_killed="")
"""


def halved(number: int, on_epoch: OnEpoch | None) -> float:
    return number / 2


def refused(on_epoch: OnEpoch | None) -> None:
    raise ZeroDivisionError("by zero")


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


@pytest.mark.parametrize("step", ["_follow", "_first_failure"], ids=["before the training", "after the training"])
def test_a_parent_that_is_killed_leaves_no_folder(step: str, temporary: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", KILLED.format(step=step)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    end, left = time.monotonic() + 180, True
    while left and time.monotonic() < end:
        left = any(temporary.iterdir())
    assert not left
