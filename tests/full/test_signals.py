"""A command that ends by a signal leaves no process behind: no temporary Prefect server, and no training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.doubles.live_prefect import ROOT, migrated_database, wait_until
from tests.flows.conftest import endless_training
from tests.infra.test_lifeline import ended

pytestmark = pytest.mark.full


def descendants(pid: int) -> list[int]:
    children = [int(each) for each in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]
    return [*children, *(inner for child in children for inner in descendants(child))]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, pytest.param(signal.SIGQUIT, marks=pytest.mark.nightly), signal.SIGKILL]
)
def test_a_killed_training_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(endless_training(tmp_path)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(ROOT)}
    migrated_database(tmp_path / "prefect" / "prefect.db")
    log = tmp_path / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "flows.cli", "retrain", "--verbose", "-c", str(tmp_path / "run.yaml")]
        running = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=file, stderr=file)
    try:
        wait_until(lambda: "ss4rec epoch 2 of" in log.read_text() or running.poll() is not None, 900, "training")
        started = descendants(running.pid)
        assert started, log.read_text()[-2000:]
    finally:
        running.send_signal(number)
    assert running.wait(timeout=600) == -number
    wait_until(lambda: all(map(ended, started)), 600, "the end of what the command has started")
