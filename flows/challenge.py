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
from tasks.evaluate import Evaluation
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

__all__ = ["Challenge", "Clock", "challenge"]

P = ParamSpec("P")
T = TypeVar("T")


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
    candidates = [clock(f"train {kind}", train_model, dataset, kind, settings) for kind in candidate_kinds(settings.models)]
    evaluation = clock("evaluate", evaluate_models, dataset, candidates, settings)
    staged = clock("stage", stage_version, evaluation, settings)
    decision = clock("gate", gate, staged, dataset, settings)
    version = clock("publish", publish_version, staged, decision, candidates[-1], evaluation, settings)
    answered = clock("approval", ask_for_approval, decision, settings.promotion)
    if answered.approval is not None:
        record_answer(version, answered, settings.store)
    published = clock("promote", promote_challenger, version, answered, settings.promotion, settings.store)
    decision = published.decision
    clock("record", record_runs, candidates, evaluation, decision, version, settings)
    clear_checkpoints(settings)
    return Challenge(
        evaluation=evaluation,
        decision=decision,
        version=version,
        champion=version.version if published.promotion else decision.champion,
        promoted=published.promotion is not None,
    )
