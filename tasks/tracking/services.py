"""Track a run at Weights & Biases and in MLflow.

A service's package runs in a process of its own (`writer`), fed through a pipe that the run never waits for. The process is stopped
if it does not finish in time. Any failure there results in a single warning.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.child_processes import NETWORK, child_environment
from configs.extras import install_command
from configs.redaction import shown_address
from configs.settings import TrackingSettings
from models.recommender import EpochReport
from tasks.tracking.records import RunPlan, RunRecord, epoch_row

__all__ = ["ServiceTracker", "register_in_mlflow", "start_mlflow", "start_wandb"]

Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class Service:
    """A tracking service: its name for people, and its package, which is also its name for `writer`."""

    name: str
    package: str
    extra: str
    needs: tuple[str, ...]
    """Variables of the environment that its process needs."""


WANDB = Service("Weights & Biases", "wandb", "tracking", (*NETWORK, "WANDB_*", "NETRC"))
MLFLOW = Service("MLflow", "mlflow", "mlflow", (*NETWORK, "MLFLOW_*", "DATABRICKS_*"))


class ServiceTracker:
    """One run at a service. After its end, every call does nothing."""

    def __init__(self, service: Service, settings: TrackingSettings, log: Log, process: subprocess.Popen[bytes]) -> None:
        self._service, self._settings, self._log = service, settings, log
        self._process: subprocess.Popen[bytes] | None = process
        self._unsent = b""
        self._epochs: set[int] = set()

    def epoch(self, report: EpochReport) -> None:
        """Send an epoch, but only once."""
        if report.epoch not in self._epochs:
            self._epochs.add(report.epoch)
            self.send({"epoch": epoch_row(report)})

    def summary(self, record: RunRecord) -> None:
        """Send everything known so far, including epochs from before the run was resumed."""
        for report in record.epochs:
            self.epoch(report)
        self.send({"summary": record.summary()})

    def end(self, record: RunRecord | None) -> None:
        """Send the complete record and wait at most `timeout_s` for the service to finish. None means that the run failed."""
        if self._process is None:
            return
        if record is not None:
            self.summary(record)
        self.close(1 if record is None else 0)

    def close(self, status: int) -> None:
        """Let the process finish with this status, and wait at most `timeout_s` for it."""
        self.send({"finish": status})
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _, complaint = process.communicate(self._unsent, timeout=self._settings.timeout_s)
            if process.returncode:
                said = complaint.decode(errors="replace").strip().splitlines()
                reason = said[-1] if said else f"its process exited with status {process.returncode}"
                _give_up(self._service, self._settings, self._log, reason)
        except subprocess.TimeoutExpired:
            _kill(process)
            reason = f"it had not finished {self._settings.timeout_s:g} s after the end of the run"
            _give_up(self._service, self._settings, self._log, reason)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to `writer`.

        Only as much is written as the pipe accepts at once. The rest is sent with the next message, or at the end.
        """
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._unsent += json.dumps(message, default=str).encode() + b"\n"  # str: no settings value may stop a run
        with suppress(BlockingIOError, BrokenPipeError):  # a dead process is reported at the end
            self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent) :]


_given_up: set[tuple[str, TrackingSettings]] = set()


def start_wandb(plan: RunPlan, settings: TrackingSettings, work_dir: Path, log: Log) -> ServiceTracker | None:
    """Start tracking a run at Weights & Biases, or return None if it is off. Failures are logged once; this function never raises."""
    if settings.mode == "off":
        return None
    init = {
        "id": secrets.token_hex(4),
        "name": plan.name,
        "group": plan.group,
        "job_type": plan.job,
        "config": {name: value for name, value in asdict(plan).items() if name not in ("name", "group", "job")},
        "project": settings.project,
        "entity": settings.entity,
        "tags": [plan.kind, *settings.tags],
        "mode": settings.mode,
        "dir": str(work_dir.absolute()),
    }
    return _start(WANDB, init, settings, log)


def start_mlflow(plan: RunPlan, settings: TrackingSettings, log: Log) -> ServiceTracker | None:
    """Start tracking a run in MLflow, or return None if `mlflow_uri` is not set. Failures are logged once; this function never raises."""
    if settings.mlflow_uri is None:
        return None
    facts = {"kind": plan.kind, "group": plan.group, "job": plan.job, "dataset": plan.dataset, "git_commit": plan.git_commit}
    init = {
        "uri": settings.mlflow_uri,
        "experiment": settings.project,
        "name": plan.name,
        "tags": {name: value for name, value in facts.items() if value is not None} | dict.fromkeys(settings.tags, "true"),
        "params": {**_flat(plan.settings), "seed": plan.seed, "protocol": plan.protocol},
    }
    return _start(MLFLOW, init, settings, log)


def register_in_mlflow(given: Mapping[str, Any], settings: TrackingSettings, log: Log) -> None:
    """Send what `writer.register` takes, and wait at most `timeout_s`. A failure is logged once; this function never raises."""
    process = _start_writer(MLFLOW, settings, log)
    if process is not None:
        tracker = ServiceTracker(MLFLOW, settings, log, process)
        tracker.send({"register": {**given, "uri": settings.mlflow_uri}})
        tracker.close(0)


def _flat(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings by their keys, such as `evaluation.k_core`."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def _start(service: Service, init: dict[str, Any], settings: TrackingSettings, log: Log) -> ServiceTracker | None:
    process = _start_writer(service, settings, log)
    if process is None:
        return None
    tracker = ServiceTracker(service, settings, log, process)
    tracker.send({"init": init})
    return tracker


def _start_writer(service: Service, settings: TrackingSettings, log: Log) -> subprocess.Popen[bytes] | None:
    if (service.package, settings) in _given_up:
        return None
    if importlib.util.find_spec(service.package) is None:
        _given_up.add((service.package, settings))
        said = "Runs are not tracked: %s is not installed. Install it with `%s`."
        log.info(said, service.package, install_command(service.extra))
        return None
    # -P: neither this folder nor the working folder may shadow a package that the service imports.
    writer = str(Path(__file__).with_name("writer.py"))
    program = [sys.executable, "-P", writer, service.package, f"{settings.timeout_s:g}"]
    try:
        process = subprocess.Popen(
            program,
            env=child_environment(service.needs),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # when the run is interrupted, the tracker can still close its files
        )
    except OSError as error:
        _give_up(service, settings, log, f"its process did not start: {error}")
        return None
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process


def _give_up(service: Service, settings: TrackingSettings, log: Log, reason: str) -> None:
    """Warn once, and stop tracking there in this process: another run would only wait again."""
    if (service.package, settings) not in _given_up:
        _given_up.add((service.package, settings))
        if settings.mlflow_uri is not None:
            reason = reason.replace(settings.mlflow_uri, shown_address(settings.mlflow_uri))
        log.warning("%s failed and is now turned off; the run itself is not affected. %s", service.name, reason)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and the processes that the service's package started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            pipe.close()
