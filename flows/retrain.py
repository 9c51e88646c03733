"""retrain: the complete scheduled pipeline, from events to a dataset, models, a gate decision and possibly a new champion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from configs.clock import wall_clock
from configs.settings import RetrainSettings
from flows.challenge import Clock, train_and_gate
from flows.etl import etl
from flows.forms import with_form
from infra.locks import run_lock
from infra.registry import ModelRef
from infra.storage import open_store
from tasks.datasets import DatasetRef, last_delivery
from tasks.evaluation import Evaluation
from tasks.gate import Decision
from tasks.monitoring import DriftResult
from tasks.outcome import Answers, headline_figures
from tasks.stages import measure_drift, publish_failure_artifact
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence, summarise_retraining

__all__ = ["RetrainSummary", "retrain"]


@dataclass(frozen=True)
class RetrainSummary:
    """The result of a run. `recsys retrain --json FILE` writes it to a file."""

    flow_run: str
    dataset: DatasetRef
    drift: DriftResult
    evaluation: Evaluation
    decision: Decision
    version: ModelRef
    champion: str | None  # after the run
    promoted: bool
    durations_s: dict[str, float]
    answers: Answers  # was it promoted and why, is the data all right, what did it cost

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@with_form("model_name", "data.source", "data.local_path", "data.landing", "challenger", "promotion.approval", "store.url")
@flow(
    name="retrain",
    flow_run_name=dated("{settings.model_name} on {settings.data.dataset_name}"),
    on_failure=[publish_failure_artifact],
)
@fails_with_a_sentence
def retrain(settings: RetrainSettings = RetrainSettings()) -> RetrainSummary:  # noqa: B008
    """Retrain on the configured source or landing zone, and promote the result if it passes the gate."""
    begin_summary(f"{settings.model_name} is retrained on {settings.data.dataset_name}.")
    clock = Clock()
    with run_lock(settings.work_dir, settings.model_name):
        # The feed is as old as it was when its events were read. How long a busy machine takes to read them does not matter.
        now = int(wall_clock()) if settings.monitoring.clock == "wall" else None
        dataset = clock("etl", etl, settings.data, settings.validation, settings.store, settings.etl, settings.landing)
        watched = clock(
            "drift",
            measure_drift,
            dataset,
            settings.model_name,
            settings.drift,
            settings.store,
            settings.monitoring,
            (None, now),
            settings.data.nouns,
        )
        outcome = train_and_gate(dataset, settings, clock)
    found = outcome.retraining(dataset, last_delivery(open_store(settings.store), dataset), watched.result, clock)
    answers = summarise_retraining(found, watched, settings.store)
    summary = RetrainSummary(
        flow_run=str(flow_run.id),
        dataset=dataset,
        drift=watched.result,
        evaluation=outcome.evaluation,
        decision=outcome.decision,
        version=outcome.version,
        champion=outcome.champion,
        promoted=outcome.promoted,
        durations_s=clock.seconds,
        answers=answers,
    )
    name = f"{settings.model_name} {outcome.version.version}: {headline_figures(outcome.decision)}"
    return ended(outcome.decision.outcome.capitalize(), answers.message, summary, name)


if __name__ == "__main__":
    print(retrain())
