"""The stages that every challenger goes through: training, evaluation, gate, publication, and promotion if it passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from configs.settings import RetrainSettings
from flows.approval import ask_for_approval
from infra.registry import ModelRef
from tasks.datasets import DatasetRef
from tasks.evaluation import Evaluation
from tasks.gate import Decision
from tasks.stages import (
    Trained,
    evaluate_models,
    gate,
    promote_challenger,
    publish_version,
    record_answer,
    record_runs,
    settle_cost,
    stage_version,
    take_candidates_over,
    tell_of_decision,
    train_by_deployment,
    train_model,
)
from tasks.training import candidate_kinds, clear_checkpoints

__all__ = ["Challenge", "Clock", "Ranked", "challenge", "enter_gate", "train_candidates"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Ranked:
    """The trained models of a run, and their evaluation."""

    trained: Trained
    evaluation: Evaluation


@dataclass(frozen=True)
class Challenge:
    """The result of a challenger."""

    evaluation: Evaluation
    decision: Decision
    version: ModelRef
    champion: str | None  # after the challenge
    promoted: bool


class Clock:
    """Calls stages and records their durations."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        result = stage(*args, **kwargs)
        self.seconds[name] = round(time.perf_counter() - started, 2)
        return result


def challenge(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Challenge:
    """Train on `dataset` and let the gate decide.

    The calling flow must hold the run lock of the model.
    """
    ranked = train_candidates(dataset, settings, clock)
    outcome = enter_gate(ranked, dataset, settings, clock)
    clear_checkpoints(settings)
    return outcome


def train_candidates(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Ranked:
    """Train and evaluate the models of a run. Their checkpoints are kept until `clear_checkpoints` is called."""
    trained = _train(dataset, settings, clock)
    return Ranked(trained, clock("evaluate", evaluate_models, dataset, trained.candidates, settings))


def enter_gate(ranked: Ranked, dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Challenge:
    """Judge the challenger, publish it as a version of `settings.model_name`, and promote it if it passes the gate.

    Args:
        ranked: The models of the run and their evaluation. The last candidate is the challenger.
        dataset: Dataset version that they were trained on.
        settings: Settings of the run.
        clock: Records the durations of the stages.
    """
    trained, evaluation = ranked.trained, ranked.evaluation
    candidates = trained.candidates  # the challenger last
    staged = clock("stage", stage_version, evaluation, settings)
    decision = clock("gate", gate, staged, dataset, settings)
    origin = clock("cost", settle_cost, trained, settings.training) if trained.runs else trained.origin
    version = clock("publish", publish_version, staged, decision, candidates[-1], evaluation, settings, origin)
    if decision.outcome == "needs approval":
        tell_of_decision(version, decision, settings.store)
    answered = clock("approval", ask_for_approval, decision, settings.promotion)
    if answered.approval is not None:
        record_answer(version, answered, settings.store)
    published = clock("promote", promote_challenger, version, answered, settings.promotion, settings.store)
    decision = published.decision
    if decision.outcome != "needs approval" or decision != answered:  # approved, then judged again against another champion
        tell_of_decision(version, decision, settings.store)
    clock("record", record_runs, candidates, evaluation, decision, version, settings)
    return Challenge(
        evaluation=evaluation,
        decision=decision,
        version=version,
        champion=version.version if published.promotion else decision.champion,
        promoted=published.promotion is not None,
    )


def _train(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Trained:
    """Train the candidates in this run or by a deployment, as configured."""
    if settings.training.where == "deployment":
        runs = clock("train", train_by_deployment, dataset, settings)
        return clock("take over", take_candidates_over, dataset, runs, settings)
    return Trained([clock(f"train {kind}", train_model, dataset, kind, settings) for kind in candidate_kinds(settings.models)])
