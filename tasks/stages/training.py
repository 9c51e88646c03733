"""The tasks that train candidates, evaluate them, and record their runs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from configs.errors import AlreadyExistsError, TrainingError
from configs.settings import RetrainSettings
from infra.progress import step
from infra.registry import ModelRef
from infra.storage import open_store
from models.recommender import EpochReport, TeacherEpoch
from tasks.datasets import DatasetRef
from tasks.evaluation import CheckedRefit, Evaluation, VersionFolder, assemble_version, check_refit, evaluate, failed_refit
from tasks.gate import Decision
from tasks.stages.artifacts import happened, live_progress
from tasks.stages.model_artifacts import publish_metrics_artifact
from tasks.stages.task_options import NETWORK
from tasks.tracking import RunPlan, abandon_tracking, candidate_plan, candidate_record, resume_tracking, start_tracking
from tasks.training import Beginning, Candidate, challenger_of, choose_beginning, train_candidate

__all__ = [
    "EpochsTrained",
    "Evaluated",
    "check_refit_model",
    "choose_parent",
    "epoch_line",
    "evaluate_models",
    "follow_training",
    "record_runs",
    "refit_model",
    "train_model",
]


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of a run's candidates, and the folder that becomes the challenger's version."""

    evaluation: Evaluation
    folder: VersionFolder


@dataclass
class EpochsTrained:
    """How far a training is, with that of the teachers from which the model learns.

    Attributes:
        teachers: Their number, as soon as the first of them reports an epoch.
    """

    teachers: int = 0

    def after(self, report: EpochReport) -> tuple[int, int]:
        """Return the epochs that are done or not needed any more, and all epochs, if no training ends early."""
        earlier = self.teachers
        if isinstance(report, TeacherEpoch):
            self.teachers, earlier = report.teachers, report.teacher - 1
        return earlier * report.max_epochs + report.epoch, (self.teachers + 1) * report.max_epochs


@task(name="train", task_run_name="train {kind}", **NETWORK)
def train_model(dataset: DatasetRef, kind: str, settings: RetrainSettings, parent: str | None = None) -> Candidate:
    """Train one candidate, and report its progress in the UI and the log. `parent` is the version whose weights it begins with."""
    log = get_run_logger()
    tracker = start_tracking(
        _run_plan(kind, f"{dataset.name}/{dataset.version}", settings), settings.tracking, settings.work_dir, log
    )

    with live_progress(f"training-{kind}", f"{kind} is training") as shown:
        trained = EpochsTrained()

        def on_epoch(report: EpochReport) -> None:
            done, total = trained.after(report)
            shown(100 * done / total, epoch_line(report))
            if not isinstance(report, TeacherEpoch):
                tracker.epoch(report)
            log.info("%s %s", kind, epoch_line(report), extra=step(f"train {kind}", done, total))

        try:
            candidate = train_candidate(open_store(settings.store), dataset, kind, settings, on_epoch, parent=parent)
        except BaseException:
            abandon_tracking(str(flow_run.id))
            raise
    if candidate.replicas > 1:
        log.info("%s was trained by %d replicas", kind, candidate.replicas)
    if parent is not None:
        log.info(
            "%s began %s", kind, f"with the weights of {parent}" if candidate.warm else "from scratch: it allows no warm start"
        )
    if candidate.resumed_from is not None:
        log.info("%s resumed from epoch %d of an earlier run", kind, candidate.resumed_from)
    happened(f"train {kind}: kept epoch {candidate.best_epoch} of {len(candidate.epochs)}")
    return candidate


@task(name="choose the beginning", **NETWORK)
def choose_parent(dataset: DatasetRef, settings: RetrainSettings) -> Beginning:
    """Return how the challenger's training begins, and why. The log says it, too."""
    chosen = choose_beginning(open_store(settings.store), dataset, settings)
    began = "from scratch" if chosen.parent is None else f"with {chosen.parent}"
    get_run_logger().info("the challenger begins %s: %s", began, chosen.why)
    happened(f"begin {began}: {chosen.why}")
    return chosen


@task(name="refit", task_run_name="refit {kind}", **NETWORK)
def refit_model(
    dataset: DatasetRef, kind: str, epochs: int, settings: RetrainSettings, parent: str | None = None
) -> Candidate | str:
    """Train a kind on all events, as it was trained when it was judged. Return why if it cannot be trained so.

    Args:
        dataset: Dataset version to train on.
        kind: Kind of the model.
        epochs: Number of epochs that it needed when it was judged.
        settings: Settings of the run.
        parent: Version whose weights the judged training began with.
    """
    log = get_run_logger()
    with live_progress("refit", f"{kind} is trained on all events") as shown:
        trained = EpochsTrained()

        def on_epoch(report: EpochReport) -> None:
            done, total = trained.after(report)
            said = f"{_teacher(report)}epoch {report.epoch} of {report.max_epochs} on all events: {report.seconds:.1f} s"
            shown(100 * done / total, said)
            log.info("%s %s", kind, said, extra=step(f"refit {kind}", done, total))

        try:
            candidate = train_candidate(
                open_store(settings.store), dataset, kind, settings, on_epoch, refit_epochs=epochs, parent=parent
            )
        except TrainingError as error:
            return str(error)
    happened(f"refit {kind}: {len(candidate.epochs)} epochs on all events")
    return candidate


@task(name="check the refit", **NETWORK)
def check_refit_model(
    dataset: DatasetRef, judged: VersionFolder, challenger: Candidate, refit: Candidate | str, settings: RetrainSettings
) -> CheckedRefit:
    """Check the model that was trained on all events against the judged one. `refit` is the reason if there is none."""
    if isinstance(refit, str):
        found = failed_refit(challenger, refit, settings)
    else:
        found = check_refit(open_store(settings.store), dataset, judged, refit, settings)
    log = get_run_logger()
    if found.refit.served:
        log.info("the refit is served: its top tens agree with the judged ones by %.0f %%", 100 * (found.refit.agreement or 0))
    else:
        log.warning("the judged weights are served, because the refit failed its checks: %s", found.refit.reason)
    return found


def follow_training(dataset: DatasetRef, candidate: Candidate, settings: RetrainSettings) -> None:
    """Log and track a candidate of another run as if it had been trained here. Must be called within a task."""
    log = get_run_logger()
    tracker = start_tracking(
        _run_plan(candidate.kind, f"{dataset.name}/{dataset.version}", settings), settings.tracking, settings.work_dir, log
    )
    for report in candidate.epochs:
        tracker.epoch(report)
        log.info("%s %s", candidate.kind, epoch_line(report))


@task(name="evaluate", **NETWORK)
def evaluate_models(dataset: DatasetRef, candidates: list[Candidate], settings: RetrainSettings) -> Evaluated:
    """Rank all candidates on the test requests, and assemble the challenger's version."""
    store, challenger = open_store(settings.store), challenger_of(candidates)
    measured = evaluate(store, dataset, candidates, challenger.kind, settings)
    folder = assemble_version(Path(challenger.folder), measured, candidates, store, dataset, settings)
    evaluation = measured.evaluation
    publish_metrics_artifact(candidates, evaluation)
    happened(f"evaluate: NDCG@10 {evaluation.metrics[challenger.kind]['all']['ndcg@10']:.4f}")
    for model, parts in evaluation.metrics.items():
        found = parts["all"]
        get_run_logger().info(
            "%s under %s: HR@10 %.4f, NDCG@10 %.4f, MRR@10 %.4f",
            model,
            evaluation.protocol,
            found["hr@10"],
            found["ndcg@10"],
            found["mrr@10"],
        )
    for candidate in candidates:
        plan = _run_plan(candidate.kind, evaluation.dataset, settings)
        tracker = resume_tracking(plan, settings.tracking, settings.work_dir, get_run_logger())
        tracker.summary(candidate_record(plan, candidate, evaluation))
    return Evaluated(evaluation, folder)


@task(name="record runs", **NETWORK)
def record_runs(
    candidates: list[Candidate], evaluation: Evaluation, decision: Decision | None, version: ModelRef, settings: RetrainSettings
) -> None:
    """Store the record of each candidate's run, and end its tracking."""
    store = open_store(settings.store)
    for candidate in candidates:
        plan = _run_plan(candidate.kind, evaluation.dataset, settings)
        record = candidate_record(plan, candidate, evaluation, decision, version)
        with suppress(AlreadyExistsError):  # written by an attempt whose response was lost; a version is recorded once
            key = f"runs/{version.name}/{version.version}/{candidate.kind}.json"
            store.put_new(key, json.dumps(record.to_dict(), indent=2).encode())
        resume_tracking(plan, settings.tracking, settings.work_dir, get_run_logger()).end(record)


def epoch_line(report: EpochReport) -> str:
    """Format an epoch for the log. The loss is left out for a model that is trained without one."""
    loss = f"loss {report.loss:.4f}, " if report.loss else ""
    return (
        f"{_teacher(report)}epoch {report.epoch} of at most {report.max_epochs}: {loss}valid NDCG@10 {report.valid['ndcg@10']:.4f} (best in epoch "
        f"{report.best_epoch}), {report.seconds:.1f} s{'. ' if report.warning else ''}{report.warning}"
    )


def _run_plan(kind: str, dataset: str, settings: RetrainSettings) -> RunPlan:
    return candidate_plan(kind, dataset, settings, group=str(flow_run.id), job=str(flow_run.flow_name))


def _teacher(report: EpochReport) -> str:
    return f"teacher {report.teacher} of {report.teachers}: " if isinstance(report, TeacherEpoch) else ""
