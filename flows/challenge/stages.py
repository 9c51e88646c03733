"""The stages that every challenger goes through: training, evaluation, gate, publication, and promotion if it passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

from configs.errors import TrainingError
from configs.settings import RetrainSettings
from flows.challenge.approval import ask_for_approval
from infra import progress
from infra.leases import leased
from infra.registry import ModelRef, StagedVersion
from infra.storage import open_store
from tasks.datasets import DatasetRef, Delivery
from tasks.evaluation import CheckedRefit, Evaluation, VersionFolder
from tasks.gate import Decision, Published
from tasks.monitoring import DriftResult
from tasks.outcome import Cost, Retraining
from tasks.stages import (
    RemoteTraining,
    Trained,
    check_gate,
    check_refit_model,
    choose_parent,
    download_refit,
    download_trained,
    evaluate_models,
    judge_challenger,
    mirror_promotion,
    notify_decision,
    promote_challenger,
    publish_version,
    record_runs,
    refit_model,
    settle_cost,
    stage_refit_model,
    stage_version,
    train_by_deployment,
    train_model,
)
from tasks.stages.rollouts import start_rollout
from tasks.training import Beginning, Origin, clear_checkpoints

__all__ = [
    "Clock",
    "GateOutcome",
    "Ranked",
    "beginning_of",
    "evaluate_candidates",
    "judge_and_promote",
    "register_unjudged",
    "train_and_evaluate",
    "train_and_gate",
    "train_inline",
]

FROM_SCRATCH = Beginning(None, "")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Ranked:
    """The trained models of a run, their evaluation, and the folder that becomes the challenger's version."""

    trained: Trained
    evaluation: Evaluation
    folder: VersionFolder
    refits: list[Refitted] = field(default_factory=list)
    """The training on all events, once there is one. The policies of a replay share it."""


@dataclass(frozen=True)
class Refitted:
    """What became of a challenger's training on all events, the flow runs that trained it elsewhere, and its seconds."""

    checked: CheckedRefit
    runs: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class GateOutcome:
    """What became of a challenger."""

    trained: Trained
    evaluation: Evaluation
    decision: Decision
    version: ModelRef
    champion: str | None  # after the decision
    promoted: bool
    origin: Origin | None = None  # where it was trained, and the cost, if not in this run

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as a dictionary, without the candidates, whose folders are of this machine."""
        fields = {name: asdict(getattr(self, name)) for name in ("evaluation", "decision", "version")}
        return {**fields, "champion": self.champion, "promoted": self.promoted}

    def retraining(self, dataset: DatasetRef, delivery: Delivery | None, drift: DriftResult | None, clock: Clock) -> Retraining:
        """Return all that a run made and found, for its summary."""
        cost = Cost(
            seconds=sum(clock.seconds.values()),
            usd=self.origin.cost if self.origin else None,
            rented=self.origin.rented if self.origin else "",
            remote=self.origin is not None,
            device=self.trained.challenger.device,
        )
        return Retraining(
            dataset, delivery, drift, self.trained.candidates, self.evaluation, self.decision, self.version, clock.seconds, cost
        )


class Clock:
    """Calls stages and records their durations."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        with progress.stage(name):
            result = stage(*args, **kwargs)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 2)
        return result


def train_and_gate(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> GateOutcome:
    """Train on `dataset` and let the gate decide, unless it could not judge the result.

    The calling flow must hold the run lock of the model.

    Raises:
        GateError: The gate could not judge a model that is trained on this dataset. Nothing was trained.
    """
    with leased(open_store(settings.store), f"a training of {settings.model_name}", [dataset.prefix]):
        clock("check", check_gate, dataset, settings)
        ranked = train_and_evaluate(dataset, settings, clock, beginning_of(dataset, settings, clock))
        outcome = judge_and_promote(ranked, dataset, settings, clock)
    clear_checkpoints(settings)
    return outcome


def beginning_of(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Beginning:
    """Return how the challenger's training begins. No reason is given where warm starts are off."""
    return clock("begin", choose_parent, dataset, settings) if settings.training.warm_start else FROM_SCRATCH


def train_and_evaluate(
    dataset: DatasetRef, settings: RetrainSettings, clock: Clock, beginning: Beginning = FROM_SCRATCH
) -> Ranked:
    """Train the models of a run, in this run or by a deployment as configured, and evaluate them.

    Their checkpoints are kept until `clear_checkpoints` is called.

    Args:
        dataset: Dataset version to train on.
        settings: Settings of the run.
        clock: Records the durations of the stages.
        beginning: How the challenger's training begins.
    """
    remote = settings.training.where == "deployment"
    trained = (_train_remotely if remote else train_inline)(dataset, settings, clock, beginning.parent)
    return evaluate_candidates(trained.began(beginning), dataset, settings, clock)


def train_inline(dataset: DatasetRef, settings: RetrainSettings, clock: Clock, parent: str | None = None) -> Trained:
    """Train the models of a run in this run. The challenger begins with the weights of the version `parent`."""
    parents = {settings.challenger: parent}  # baselines are trained from scratch, so that they are judged at their best
    return Trained([clock(f"train {kind}", train_model, dataset, kind, settings, parents.get(kind)) for kind in settings.kinds])


def evaluate_candidates(trained: Trained, dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Ranked:
    """Evaluate the models of a run on the test requests of `dataset`."""
    evaluated = clock("evaluate", evaluate_models, dataset, trained.candidates, settings)
    return Ranked(trained, evaluated.evaluation, evaluated.folder)


def judge_and_promote(ranked: Ranked, dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> GateOutcome:
    """Judge the challenger, publish it as a version of `settings.model_name`, and promote it if it passes the gate.

    Args:
        ranked: The models of the run and their evaluation.
        dataset: Dataset version that they were trained on.
        settings: Settings of the run.
        clock: Records the durations of the stages.
    """
    trained, evaluation, challenger = ranked.trained, ranked.evaluation, ranked.trained.challenger
    staged = clock("stage", stage_version, ranked.folder, settings)
    decision = clock("gate", judge_challenger, staged, challenger.kind, dataset, settings)
    staged, decision, remote = _refit_winner(ranked, staged, decision, dataset, settings, clock)
    origin = clock("cost", settle_cost, remote, settings.training) if remote else None
    version = clock("publish", publish_version, staged, decision, challenger, evaluation, settings, origin)
    with leased(open_store(settings.store), f"a run that may promote {version.version}", [version.prefix]):
        published = _promote_when_approved(version, decision, settings, clock)
    decision = published.decision
    if decision.outcome != "needs approval":
        notify_decision(version, decision, settings.store)
    if published.promotion is not None:
        start_rollout(published.promotion, settings.store)
        mirror_promotion(settings.model_name, settings.tracking, settings.store)
    clock("record", record_runs, trained.candidates, evaluation, decision, version, settings)
    return GateOutcome(
        trained=trained,
        evaluation=evaluation,
        decision=decision,
        version=version,
        champion=version.version if published.promotion else decision.champion,
        promoted=published.promotion is not None,
        origin=origin,
    )


def _refit_winner(
    ranked: Ranked, staged: StagedVersion, decision: Decision, dataset: DatasetRef, settings: RetrainSettings, clock: Clock
) -> tuple[StagedVersion, Decision, RemoteTraining | None]:
    """Train a challenger that the gate accepted on all events, if the settings ask for it, and stage the result beside it.

    Returns the version, the decision that tells of it, and where the challenger was trained.
    """
    trained = ranked.trained
    if not settings.training.refit or decision.outcome not in ("promoted", "needs approval"):
        return staged, decision, trained.remote
    if not ranked.refits:
        ranked.refits.append(_refitted(ranked, dataset, settings, clock))
    made = ranked.refits[0]
    clock.seconds["refit"] = made.seconds  # also for a policy that shares the refit of another one
    staged, decision = clock("stage", stage_refit_model, staged, decision, made.checked, settings)
    remote = trained.remote and replace(trained.remote, runs=(*made.runs, *trained.remote.runs))
    return staged, decision, remote


def _refitted(ranked: Ranked, dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Refitted:
    """Train the challenger on all events where it was trained before, and check the result. A failure keeps nothing from promotion."""
    challenger, own = ranked.trained.challenger, Clock()
    runs: tuple[str, ...] = ()
    parent = challenger.warm.parent if challenger.warm else None
    if ranked.trained.remote is None:
        refit = own("refit", refit_model, dataset, challenger.kind, challenger.best_epoch, settings, parent)
    else:
        try:
            runs = own("refit", train_by_deployment, dataset, settings, challenger.best_epoch, parent)
            refit = own("refit", download_refit, runs, settings)
        except TrainingError as error:
            refit = str(error)
    checked = own("refit", check_refit_model, dataset, ranked.folder, challenger, refit, settings)
    return Refitted(checked, runs, own.seconds["refit"])


def _promote_when_approved(version: ModelRef, decision: Decision, settings: RetrainSettings, clock: Clock) -> Published:
    """Ask a person if the decision needs it, and promote the version if everything agrees."""
    while True:
        if decision.outcome == "needs approval":
            notify_decision(version, decision, settings.store)
        answered = clock("approval", ask_for_approval, decision, settings.promotion)
        published = clock(
            "promote", promote_challenger, version, answered, settings.promotion, settings.store, rollout=settings.rollout
        )
        if answered.approval is None or published.decision.outcome != "needs approval":
            return published
        # Another version became champion before the approval took effect. It was given for a comparison with the former champion.
        decision = published.decision


def register_unjudged(ranked: Ranked, settings: RetrainSettings, clock: Clock) -> ModelRef:
    """Publish the challenger as a version of `settings.model_name` without a decision."""
    trained, evaluation = ranked.trained, ranked.evaluation
    staged = clock("stage", stage_version, ranked.folder, settings)
    version = clock("publish", publish_version, staged, None, trained.challenger, evaluation, settings)
    clock("record", record_runs, trained.candidates, evaluation, None, version, settings)
    return version


def _train_remotely(dataset: DatasetRef, settings: RetrainSettings, clock: Clock, parent: str | None = None) -> Trained:
    """Train the models of a run by a deployment. The challenger begins with the weights of the version `parent`."""
    runs = clock("train", train_by_deployment, dataset, settings, None, parent)
    return clock("take over", download_trained, dataset, runs, settings)
