"""Track a run at Weights & Biases.

wandb runs in a process of its own (`wandb_writer`), fed through a pipe that the run never waits for. The process is stopped if it
does not finish in time. Any failure there results in a single warning.
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
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.extras import install_command
from configs.settings import TrackingSettings
from models.recommender import EpochReport
from tasks.tracking.records import RunPlan, RunRecord, epoch_row

__all__ = ["WandbTracker", "start_wandb"]

Log = logging.Logger | logging.LoggerAdapter[Any]


class WandbTracker:
    """One run at Weights & Biases. After its end, every call does nothing."""

    def __init__(self, settings: TrackingSettings, log: Log, process: subprocess.Popen[bytes]) -> None:
        self._settings, self._log = settings, log
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
        """Send the complete record and wait at most `timeout_s` for the tracker to finish. None means that the run failed."""
        if self._process is None:
            return
        if record is not None:
            self.summary(record)
        self.send({"finish": 1 if record is None else 0})
        process, self._process = self._process, None
        try:
            _, complaint = process.communicate(self._unsent, timeout=self._settings.timeout_s)
            if process.returncode:
                said = complaint.decode(errors="replace").strip().splitlines()
                _give_up(self._settings, self._log, said[-1] if said else f"its process exited with status {process.returncode}")
        except subprocess.TimeoutExpired:
            _kill(process)
            _give_up(self._settings, self._log, f"it had not finished {self._settings.timeout_s:g} s after the end of the run")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to `wandb_writer`.

        Only as much is written as the pipe accepts at once. The rest is sent with the next message, or at the end.
        """
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._unsent += json.dumps(message, default=str).encode() + b"\n"  # str: no settings value may stop a run
        with suppress(BlockingIOError, BrokenPipeError):  # a dead process is reported at the end
            self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent) :]


_given_up: set[TrackingSettings] = set()


def start_wandb(plan: RunPlan, settings: TrackingSettings, work_dir: Path, log: Log) -> WandbTracker | None:
    """Start tracking a run, or return None if runs are not tracked. Failures are logged once; this function never raises."""
    process = _start_writer(settings, log)
    if process is None:
        return None
    tracker = WandbTracker(settings, log, process)
    tracker.send({"init": _init(plan, settings, work_dir)})
    return tracker


def _start_writer(settings: TrackingSettings, log: Log) -> subprocess.Popen[bytes] | None:
    if settings.mode == "off" or settings in _given_up:
        return None
    if importlib.util.find_spec("wandb") is None:
        _given_up.add(settings)
        log.info("Runs are not tracked: wandb is not installed. Install it with `%s`.", install_command("tracking"))
        return None
    # -P: neither this folder nor the working folder may shadow a package that wandb imports.
    program = [sys.executable, "-P", str(Path(__file__).with_name("wandb_writer.py")), f"{settings.timeout_s:g}"]
    try:
        process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # when the run is interrupted, the tracker can still close its files
        )
    except OSError as error:
        _give_up(settings, log, f"its process did not start: {error}")
        return None
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process


def _init(plan: RunPlan, settings: TrackingSettings, work_dir: Path) -> dict[str, Any]:
    """Return the arguments for `wandb.init`."""
    return {
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


def _give_up(settings: TrackingSettings, log: Log, reason: str) -> None:
    """Warn once, and stop tracking in this process: another run would only wait again."""
    if settings not in _given_up:
        _given_up.add(settings)
        log.warning("Weights & Biases failed and is now turned off; the run itself is not affected. %s", reason)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and the processes that wandb started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            pipe.close()
