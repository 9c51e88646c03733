"""Track each trained model: one record, stored as JSON and sent to Weights & Biases.

Tracking must never harm a run. So wandb runs in a process of its own (`wandb_writer`), fed through a pipe that the run never
waits for. The process is stopped if it does not finish in time. Any failure there results in a single warning.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from configs.redaction import safe_settings
from configs.settings import RetrainSettings, TrackingSettings
from infra.registry import ModelRef, git_commit
from models.recommender import EpochReport
from tasks.evaluation import Evaluation
from tasks.gate import Decision
from tasks.training import Candidate

__all__ = [
    "RunPlan",
    "RunRecord",
    "Tracker",
    "abandon_tracking",
    "candidate_plan",
    "candidate_record",
    "resume_tracking",
    "start_tracking",
]

Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class RunPlan:
    """The facts that are known about a run before it starts."""

    name: str
    group: str  # the flow run or comparison that it belongs to
    job: str  # the flow: retrain, train, compare
    kind: str  # ss4rec, ncf, popularity
    seed: int
    dataset: str  # name/version
    protocol: str
    settings: dict[str, Any]  # without credentials
    git_commit: str | None


@dataclass(frozen=True)
class RunRecord:
    """The complete record of a run. The stored JSON and the data sent to the tracker are both built from it."""

    plan: RunPlan
    epochs: list[EpochReport]
    best_epoch: int
    resumed_from: int | None
    parameters: int
    device: str
    seconds: float  # of training
    requests: int
    metrics: dict[str, float]  # over all test requests
    intervals: dict[str, tuple[float, float]]  # metric -> 95 % bootstrap interval over requests
    beyond_accuracy: dict[str, float] = field(default_factory=dict)
    replicas: int = 1  # processes that trained the model together
    cost: float | None = None  # USD
    gate: str | None = None  # outcome; only for the challenger
    gate_reasons: list[str] = field(default_factory=list)
    version: str | None = None  # model version that the run became, or was judged alongside

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> RunRecord:
        """Rebuild a record from the output of `to_dict`. Unknown keys are ignored."""
        values = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        return cls(
            **values
            | {
                "plan": RunPlan(**kept["plan"]),
                "epochs": [EpochReport(**report) for report in kept["epochs"]],
                "intervals": {name: (low, high) for name, (low, high) in kept["intervals"].items()},
            }
        )

    def summary(self) -> dict[str, Any]:
        """Return the run's figures under flat names, by which a tracker compares runs."""
        facts = (
            "best_epoch",
            "parameters",
            "device",
            "replicas",
            "seconds",
            "requests",
            "cost",
            "gate",
            "gate_reasons",
            "version",
        )
        found: dict[str, Any] = {name: value for name in facts if (value := getattr(self, name)) not in (None, [])}
        found |= {f"test/{name}": value for name, value in (self.metrics | self.beyond_accuracy).items()}
        for name, (low, high) in self.intervals.items():
            found |= {f"test/{name}/low": low, f"test/{name}/high": high}
        return found


def candidate_plan(kind: str, dataset: str, settings: RetrainSettings, *, group: str, job: str) -> RunPlan:
    """Return the plan of a candidate of the flow run `group`."""
    return RunPlan(
        name=f"{settings.model_name}-{kind}",
        group=group,
        job=job,
        kind=kind,
        seed=settings.seed,
        dataset=dataset,
        protocol=settings.evaluation.protocol_id,
        settings=safe_settings(settings),
        git_commit=git_commit(),
    )


def candidate_record(
    plan: RunPlan, candidate: Candidate, evaluation: Evaluation, decision: Decision | None = None, version: ModelRef | None = None
) -> RunRecord:
    """Return the record of an evaluated candidate. Only the record of the challenger contains the decision."""
    judged = decision if version is not None and version.kind == candidate.kind else None
    return RunRecord(
        plan=plan,
        epochs=candidate.epochs,
        best_epoch=candidate.best_epoch,
        resumed_from=candidate.resumed_from,
        parameters=candidate.parameters,
        device=candidate.device,
        replicas=candidate.replicas,
        seconds=candidate.seconds,
        requests=evaluation.requests,
        metrics=evaluation.metrics[candidate.kind]["all"],
        intervals=evaluation.intervals[candidate.kind],
        beyond_accuracy=evaluation.beyond_accuracy[candidate.kind],
        gate=judged.outcome if judged else None,
        gate_reasons=judged.reasons if judged else [],
        version=version.version if version else None,
    )


def epoch_row(report: EpochReport) -> dict[str, float]:
    """Return an epoch as a row of the run's history."""
    row = {"epoch": report.epoch, "loss": report.loss, "seconds": report.seconds}
    return row | {f"valid/{name}": value for name, value in report.valid.items()}


class Tracker:
    """One run at Weights & Biases, from `start_tracking` to `end`. Without a process, every call does nothing."""

    def __init__(self, plan: RunPlan, settings: TrackingSettings, log: Log, process: subprocess.Popen[bytes] | None) -> None:
        self._plan, self._settings, self._log = plan, settings, log
        self._process = process
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
        _begun.pop((self._plan.group, self._plan.name), None)
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


_begun: dict[tuple[str, str], Tracker] = {}  # by group and name: a stage of a flow run may end what an earlier one started
_given_up: set[TrackingSettings] = set()


def start_tracking(plan: RunPlan, settings: TrackingSettings, work_dir: Path, log: Log) -> Tracker:
    """Start tracking a run. Failures are logged once; this function never raises."""
    tracker = Tracker(plan, settings, log, _start(settings, log))
    tracker.send({"init": _init(plan, settings, work_dir)})
    _begun[plan.group, plan.name] = tracker
    return tracker


def resume_tracking(plan: RunPlan, settings: TrackingSettings, work_dir: Path, log: Log) -> Tracker:
    """Return the tracker that this process started for `plan`, or a new one if another process started it."""
    return _begun.get((plan.group, plan.name)) or start_tracking(plan, settings, work_dir, log)


def abandon_tracking(group: str) -> None:
    """End, as failed, all trackers that this process started for a flow run that stops here."""
    for tracker in [tracker for (of, _), tracker in _begun.items() if of == group]:
        tracker.end(None)


def _start(settings: TrackingSettings, log: Log) -> subprocess.Popen[bytes] | None:
    if settings.mode == "off" or settings in _given_up:
        return None
    if importlib.util.find_spec("wandb") is None:
        _given_up.add(settings)
        log.info("Runs are not tracked: the package wandb is not installed. Install the extra `tracking`.")
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
