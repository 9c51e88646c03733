"""Traces of flows: Prefect makes the spans, and the product sends them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.observers.otlp import otlp_receiver

ROOT = Path(__file__).parents[2]
PROGRAM = """
import flows
from prefect import flow, task
@task(task_run_name="a step")
def step(): return 1
@flow(flow_run_name="a run")
def run(): return step()
assert run() == 1
"""


@pytest.mark.full
def test_a_run_and_its_tasks_are_one_trace(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "COVERAGE"))}
        given = {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OTEL_SERVICE_NAME": "worker"}
        command = [sys.executable, "-c", PROGRAM]
        subprocess.run(command, env=environment | given | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address}, check=True)
        (run,), (step,) = receiver.named("a run"), receiver.named("a step")
        assert run.service == "worker" and not run.parent
        assert (step.trace, step.parent) == (run.trace, run.span)


def test_a_worker_that_cannot_trace_says_why_in_one_sentence(tmp_path: Path) -> None:
    given = {"PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    done = subprocess.run(
        [sys.executable, "-c", "import flows"], env=os.environ | given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "http/protobuf only" in done.stderr
