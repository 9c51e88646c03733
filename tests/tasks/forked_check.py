"""The clean process of the load check, forked instead of started.

Dozens of tests ask the gate. Each answer needs a clean process, which takes two seconds of CPU to import torch. Python's fork server has
done the same imports, loaded no version, and holds nothing of the test, so a fork of it is as clean. The tests of the load check
itself (tests/tasks/evaluation/test_load_check.py) and the full lane start real processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.evaluation import load_check
from tests.doubles.forks import forks

__all__ = ["forked_checks"]


@contextmanager
def forked_checks() -> Iterator[None]:
    """Fork the processes of the load check until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_check, "subprocess", SimpleNamespace(run=_run, TimeoutExpired=subprocess.TimeoutExpired))
        yield


def _run(
    command: list[str], *, env: Mapping[str, str], cwd: Path, timeout: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Do what `subprocess.run` would do with the load check's command."""
    if command[0] != REAL_PYTHON:  # a test's own program
        return subprocess.run(command, env=env, cwd=cwd, timeout=timeout, **options)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = forks.Process(target=_check, args=(command[command.index("-m") + 1 :], dict(env), cwd, *outputs))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout)
        assert process.exitcode is not None
        said = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in outputs]
        return subprocess.CompletedProcess(command, process.exitcode, *said)


def _check(arguments: list[str], environment: dict[str, str], cwd: Path, stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    load_check._main()


REAL_PYTHON = sys.executable
