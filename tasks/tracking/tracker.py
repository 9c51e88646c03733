"""The tracker of a run: what a run tells it, and how a later stage of the same flow run finds it again.

Tracking must never harm a run: no call raises, and none but `end` waits.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from configs.settings import TrackingSettings
from models.recommender import EpochReport
from tasks.tracking.records import RunPlan, RunRecord
from tasks.tracking.services import start_mlflow, start_wandb

__all__ = ["Tracker", "abandon_tracking", "resume_tracking", "start_tracking"]

Log = logging.Logger | logging.LoggerAdapter[Any]


class Tracker(Protocol):
    """Follows one run, from `start_tracking` to `end`."""

    def epoch(self, report: EpochReport) -> None:
        """Send an epoch, but only once."""

    def summary(self, record: RunRecord) -> None:
        """Send everything known so far, including epochs from before the run was resumed."""

    def end(self, record: RunRecord | None) -> None:
        """Send the complete record, and finish within `timeout_s` at each service. None means that the run failed."""


class _BegunTracker:
    """Passes everything on to each of `targets`. `resume_tracking` finds it until it ends."""

    def __init__(self, key: tuple[str, str], targets: list[Tracker]) -> None:
        self._key, self._targets = key, targets
        _begun[key] = self

    def epoch(self, report: EpochReport) -> None:
        for target in self._targets:
            target.epoch(report)

    def summary(self, record: RunRecord) -> None:
        for target in self._targets:
            target.summary(record)

    def end(self, record: RunRecord | None) -> None:
        _begun.pop(self._key, None)
        for target in self._targets:
            target.end(record)


_begun: dict[tuple[str, str], Tracker] = {}  # by group and name: a stage of a flow run may end what an earlier one started


def start_tracking(plan: RunPlan, settings: TrackingSettings, work_dir: Path, log: Log) -> Tracker:
    """Start tracking a run. Failures are logged once; this function never raises."""
    started = [start_wandb(plan, settings, work_dir, log), start_mlflow(plan, settings, log)]
    return _BegunTracker((plan.group, plan.name), [tracker for tracker in started if tracker is not None])


def resume_tracking(plan: RunPlan, settings: TrackingSettings, work_dir: Path, log: Log) -> Tracker:
    """Return the tracker that this process started for `plan`, or a new one if another process started it."""
    return _begun.get((plan.group, plan.name)) or start_tracking(plan, settings, work_dir, log)


def abandon_tracking(group: str) -> None:
    """End, as failed, all trackers that this process started for a flow run that stops here."""
    for tracker in [tracker for (of, _), tracker in _begun.items() if of == group]:
        tracker.end(None)
