"""The record of a trained model's run: the JSON that is stored, and what a tracker is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from configs.redaction import safe_settings
from configs.settings import RetrainSettings
from infra.registry import ModelRef, git_commit
from models.recommender import EpochReport
from tasks.evaluation import Evaluation
from tasks.gate import Decision
from tasks.training import Candidate

__all__ = ["RunPlan", "RunRecord", "candidate_plan", "candidate_record", "epoch_row"]


@dataclass(frozen=True)
class RunPlan:
    """The facts that are known about a run before it starts."""

    name: str
    group: str  # the flow run or comparison that it belongs to
    job: str  # the flow: retrain, train, compare
    kind: str
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
