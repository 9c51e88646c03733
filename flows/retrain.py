"""retrain: the scheduled story, whole. Events become a dataset, models, a decision, and maybe a new champion."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ParamSpec, TypeVar

from prefect import flow
from prefect.runtime import flow_run

from configs.settings import RetrainSettings
from flows.etl import etl
from infra.locks import run_lock
from tasks.candidates import candidate_kinds, clear_checkpoints
from tasks.datasets import DatasetRef
from tasks.drift import DriftResult
from tasks.evaluate import Evaluation
from tasks.gate import Decision
from tasks.registry import ModelRef
from tasks.stages import (
    evaluate_models,
    gate,
    measure_drift,
    promote_challenger,
    publish_version,
    stage_version,
    train_model,
)

__all__ = ["RetrainSummary", "retrain"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class RetrainSummary:
    """What a run did; `recsys retrain --json FILE` writes it."""

    flow_run: str
    dataset: DatasetRef
    drift: DriftResult
    evaluation: Evaluation
    decision: Decision
    version: ModelRef
    champion: str | None  # after the run
    promoted: bool
    durations_s: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@flow(name="retrain")
def retrain(settings: RetrainSettings = RetrainSettings()) -> RetrainSummary:  # noqa: B008
    """Retrain on the configured source and promote the result if the gate lets it."""
    clock = _Clock()
    with run_lock(settings.work_dir, settings.model_name):
        dataset = clock("etl", etl, settings.data, settings.validation, settings.store)
        drift = clock("drift", measure_drift, dataset, settings.model_name, settings.drift, settings.store)
        candidates = [clock(f"train {kind}", train_model, dataset, kind, settings) for kind in candidate_kinds(settings.models)]
        evaluation = clock("evaluate", evaluate_models, dataset, candidates, settings)
        staged = clock("stage", stage_version, evaluation, settings)
        decision = clock("gate", gate, staged, dataset, evaluation, settings)
        version = clock("publish", publish_version, staged, decision, candidates[-1], evaluation, settings)
        published = clock("promote", promote_challenger, version, decision, settings.promotion, settings.store)
        clear_checkpoints(settings)
    decision = published.decision
    return RetrainSummary(
        flow_run=str(flow_run.id),
        dataset=dataset,
        drift=drift,
        evaluation=evaluation,
        decision=decision,
        version=version,
        champion=version.version if published.promotion else decision.champion,
        promoted=published.promotion is not None,
        durations_s=clock.seconds,
    )


class _Clock:
    """Calls a stage and keeps how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        result = stage(*args, **kwargs)
        self.seconds[name] = round(time.perf_counter() - started, 2)
        return result


if __name__ == "__main__":
    print(retrain())
