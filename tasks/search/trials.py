"""The trials of a study: what Optuna stores about each one, as a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

__all__ = ["DEFECT", "LOST", "REASON", "TrialRecord", "defects", "trial_record", "used_trials"]

State = Literal["complete", "pruned", "failed", "running", "waiting"]
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
LOST = "Its worker was lost."
REASON, DEFECT = "reason", "defect"  # user attributes of trials that failed


@dataclass(frozen=True)
class TrialRecord:
    """One trial, as stored and displayed."""

    number: int
    state: State
    value: float | None  # best valid NDCG@10 so far
    best_epoch: int | None
    epochs: int
    seconds: float | None
    parameters: dict[str, Any]
    reason: str | None  # why it failed


def trial_record(trial: FrozenTrial) -> TrialRecord:
    values = trial.intermediate_values
    best = max(values, key=lambda epoch: values[epoch], default=None)
    seconds = trial.duration.total_seconds() if trial.duration else None
    reason = trial.user_attrs.get(REASON) or trial.user_attrs.get(DEFECT)
    if trial.state == TrialState.FAIL and reason is None:
        reason = LOST
    return TrialRecord(
        number=trial.number,
        state=STATES[trial.state],
        value=None if best is None else values[best],
        best_epoch=best,
        epochs=max(values, default=0),
        seconds=None if seconds is None else round(seconds, 1),
        parameters={name: _plain(value) for name, value in trial.params.items()},
        reason=reason,
    )


def used_trials(trials: Sequence[FrozenTrial]) -> int:
    """Number of trials that count: not those of lost workers, nor those that ended with a defect."""
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum(trial.state in counted or REASON in trial.user_attrs for trial in trials)


def defects(trials: Sequence[FrozenTrial]) -> int:
    return sum(DEFECT in trial.user_attrs for trial in trials)


def _plain(value: Any) -> Any:
    """Round floats to 10 digits: 0.15 instead of 0.15000000000000002 for low + 3 steps."""
    return float(f"{value:.10g}") if isinstance(value, float) else value
