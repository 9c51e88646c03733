"""A training whose process is lost resumes once from its last epoch: a real Prefect server, and a worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.live_prefect import PREFECT, ask, prefect_server, process, read, recsys, wait_until
from tests.flows.conftest import endless_training

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        done = recsys(["setup", "--set", "schedules=false"], environment)
        assert done.returncode == 0, done.stderr
        yield environment


def epochs(server: dict[str, str], run: str) -> list[int]:
    """Return the epochs that the run has logged, in the order of the log."""
    lines: list[str] = []
    while True:
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "offset": len(lines), "sort": "TIMESTAMP_ASC"}
        page = ask(server, "logs/filter", **wanted)
        lines += [line["message"] for line in page]
        if len(page) < 200:
            return [int(number) for number in re.findall(r"ss4rec epoch (\d+) of", "\n".join(lines))]


def kill_run(worker: int) -> None:
    """Kill the run's process, but not the worker, as the kernel does when memory runs out."""
    found = subprocess.run(["pgrep", "-P", str(worker)], capture_output=True, text=True, check=True).stdout.split()
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)


def test_a_training_that_is_killed_resumes_once_by_itself(server: dict[str, str], tmp_path: Path) -> None:
    deployment = read(server, "deployments/name/retrain/retrain")
    settings = endless_training(tmp_path)
    run = ask(server, f"deployments/{deployment['id']}/create_flow_run", parameters={"settings": settings})["id"]

    def runs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(
            server, "flow_runs/filter", deployments={"id": {"any_": [deployment["id"]]}}, sort="EXPECTED_START_TIME_ASC"
        )
        return found

    def crashes() -> int:
        """Return how many crashed runs the flow `resume` has looked at."""
        looked = ask(server, "flow_runs/filter", flows={"name": {"any_": ["resume"]}})
        return sum(run["state_type"] == "COMPLETED" for run in looked)

    command = [PREFECT, "worker", "start", "--pool", "recsys", "--type", "process"]
    with process(command, server, tmp_path / "worker.log", tmp_path) as worker:
        wait_until(lambda: 2 in epochs(server, run), 900, "training")
        kill_run(worker.pid)
        wait_until(lambda: len(runs()) == 2, 900, "the second run")
        second = runs()[1]
        assert second["parameters"] == runs()[0]["parameters"] and "resumed" in second["tags"]
        wait_until(lambda: epochs(server, second["id"]), 900, "its epochs")
        assert min(epochs(server, second["id"])) > 1, "it began again with its first epoch"

        kill_run(worker.pid)
        wait_until(lambda: runs()[1]["state_type"] == "CRASHED" and crashes() >= 2, 900, "the second crash")
        assert [each["state_type"] for each in runs()] == ["CRASHED", "CRASHED"], "a second crash is final"
