"""The part of a run that every challenger goes through: trained, evaluated, judged, published, and maybe promoted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from configs.settings import RetrainSettings
from flows.approval import ask_for_approval
from tasks.candidates import candidate_kinds, clear_checkpoints
from tasks.datasets import DatasetRef
from tasks.decision import Decision
from tasks.elsewhere import Trained, settle_cost, take_candidates_over, train_by_deployment
from tasks.evaluate import Evaluation
from tasks.notify import tell_of_decision
from tasks.registry import ModelRef
from tasks.stages import (
    evaluate_models,
    gate,
    promote_challenger,
    publish_version,
    record_answer,
    record_runs,
    stage_version,
    train_model,
)

__all__ = ["Challenge", "Clock", "Ranked", "challenge", "enter_gate", "train_candidates"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Ranked:
    """The models of a run, and how they rank."""

    trained: Trained
    evaluation: Evaluation


@dataclass(frozen=True)
class Challenge:
    """How a challenger did."""

    evaluation: Evaluation
    decision: Decision
    version: ModelRef
    champion: str | None  # after it
    promoted: bool


class Clock:
    """Calls a stage and keeps how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        result = stage(*args, **kwargs)
        self.seconds[name] = round(time.perf_counter() - started, 2)
        return result


def challenge(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Challenge:
    """Train on `dataset` and let the gate decide. Called within a flow that holds the run lock of the model."""
    ranked = train_candidates(dataset, settings, clock)
    outcome = enter_gate(ranked, dataset, settings, clock)
    clear_checkpoints(settings)
    return outcome


def train_candidates(dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Ranked:
    """Train the models of a run and rank them. Their checkpoints stay until `clear_checkpoints`."""
    trained = _train(dataset, settings, clock)
    return Ranked(trained, clock("evaluate", evaluate_models, dataset, trained.candidates, settings))


def enter_gate(ranked: Ranked, dataset: DatasetRef, settings: RetrainSettings, clock: Clock) -> Challenge:
    """Judge what was trained on `dataset`, publish it as a version of `settings.model_name`, and promote it if the gate lets it."""
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
    if decision.outcome != "needs approval" or decision != answered:  # approved, and then against another champion
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
    """The candidates, trained here or where the settings say."""
    if settings.training.where == "deployment":
        runs = clock("train", train_by_deployment, dataset, settings)
        return clock("take over", take_candidates_over, dataset, runs, settings)
    return Trained([clock(f"train {kind}", train_model, dataset, kind, settings) for kind in candidate_kinds(settings.models)])
