"""replay: replay the history of a dataset slice by slice, once for each retraining policy."""

from __future__ import annotations

from prefect import flow

from configs.errors import ReplayError
from configs.studies import ReplaySettings
from flows.challenge import Clock, beginning_of, judge_and_promote, train_and_evaluate
from flows.etl import etl
from flows.forms import with_form
from flows.monitor import monitor
from infra.locks import run_lock
from tasks.monitoring import DriftResult
from tasks.replay import (
    Replay,
    ReplayLog,
    ReplayPlan,
    Slice,
    SliceRecord,
    TrainingRecord,
    champions_of,
    dataset_of,
    headline,
    promoted_before,
    render_markdown,
    run_settings,
    trainings_due,
    watched_by_another,
)
from tasks.stages import (
    begin_replay,
    deliver_slice,
    keep_training,
    page_lines,
    publish_failure_artifact,
    record_slice,
    report_replay,
    slice_progress,
)
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence, summarise
from tasks.training import clear_checkpoints

__all__ = ["replay"]


@with_form("model_name", "data.source", "data.local_path", "slices", "base_slices", "most_slices", "store.url")
@flow(name="replay", flow_run_name=dated("{settings.data.dataset_name}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def replay(settings: ReplaySettings = ReplaySettings()) -> Replay:  # noqa: B008
    """Replay the source, and report the value of each retraining policy. A killed replay resumes with its current slice."""
    begin_summary("Past events are delivered again, and each policy retrains on them.")
    plan = begin_replay(settings)
    with run_lock(settings.work_dir, f"replay-{plan.id}"):
        with slice_progress(plan) as done:
            for part in plan.slices:
                record = ReplayLog.of(plan).slice(part.number) or watch_slice(plan, part, settings)
                due = trainings_due(plan, part, record, settings)
                if due:
                    retrain_policies(plan, part, record, due, settings)
                done(part)
        found = report_replay(plan, settings)
    said = headline(found)
    summarise(render_markdown(found, page_lines({"The replay, with every figure": found.page}, plan.store)), said)
    return ended("Replayed", said, found)


def watch_slice(plan: ReplayPlan, part: Slice, settings: ReplaySettings) -> SliceRecord:
    """Add the slice to the dataset, and monitor each policy's champion on it, including how well it ranks the slice."""
    clock, run = Clock(), run_settings(plan, settings)
    deliver_slice(plan, part)
    dataset = clock("etl", etl, run.data, run.validation, run.store, run.etl, run.landing, allow_refused=True, now=part.end)
    found: dict[str, DriftResult] = {}
    watched: dict[tuple[str, ...], DriftResult] = {}
    for policy, champion in champions_of(plan, settings).items() if part.number else ():
        if champion not in watched:
            run = run_settings(plan, settings, policy)
            watched[champion] = clock(
                f"monitor {policy}", monitor, f"{dataset.name}/{dataset.version}", run.model_name, run.data, run.drift, run.store,
                run.monitoring, since=part.start, now=part.end,
            )  # fmt: skip
        found[policy] = watched_by_another(plan, watched[champion], policy, settings)
    return record_slice(plan, part, dataset, found, settings, clock.seconds)


def retrain_policies(plan: ReplayPlan, part: Slice, record: SliceRecord, due: dict[str, str], settings: ReplaySettings) -> None:
    """Train once for all policies that are due. Each policy's gate decides against its own champion.

    One training from scratch is enough, because the same settings on the same dataset give the same model. A warm start is a policy's
    own, because it begins with the policy's champion.

    Raises:
        ReplayError: The gate held the first model, so there is no champion.
    """
    dataset = dataset_of(plan, record)
    shared, run, scratch = Clock(), run_settings(plan, settings), None
    for policy, why in due.items():
        kept = promoted_before(plan, part, record, policy, why, settings)
        if kept is None:
            own, its = Clock(), run_settings(plan, settings, policy)
            beginning = beginning_of(dataset, its, own)
            if beginning.parent is not None:
                ranked = train_and_evaluate(dataset, its, own, beginning)
            else:
                ranked = scratch = scratch or train_and_evaluate(dataset, run, shared)
                own.seconds |= shared.seconds
            outcome = judge_and_promote(ranked, dataset, its, own)
            challenger = ranked.trained.challenger
            kept = TrainingRecord(
                policy=policy,
                slice=part.number,
                why=why,
                dataset=record.dataset,
                version=outcome.version.version,
                outcome=outcome.decision.outcome,
                reasons=outcome.decision.reasons,
                champion=outcome.champion,
                holdout_ndcg_at_10=outcome.evaluation.metrics[challenger.kind]["all"]["ndcg@10"],
                training_s=round(sum(epoch.seconds for each in ranked.trained.candidates for epoch in each.epochs), 2),
                seconds=round(sum(own.seconds.values()), 2),
                warm=challenger.warm is not None,
                challenger_s=round(sum(epoch.seconds for epoch in challenger.epochs), 3),
                learnt=challenger.events * len(challenger.epochs),
            )
        if kept.champion is None:
            raise ReplayError(
                f"The gate held the base model ({kept.outcome}), so there is no champion to replay. {' '.join(kept.reasons)} "
                "Use more base_slices, train longer, or lower promotion.floors."
            )
        keep_training(plan, kept)
    for each in (run, *(run_settings(plan, settings, policy) for policy in due)):
        clear_checkpoints(each)


if __name__ == "__main__":
    print(replay())
