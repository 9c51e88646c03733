"""The trainings of a replay: which policies are due after a slice, and what a killed run has already done."""

from __future__ import annotations

from configs.studies import ReplaySettings
from infra.registry import ModelRegistry
from tasks.replay.feed import Slice
from tasks.replay.log import ReplayLog, ReplayPlan, SliceRecord, TrainingRecord
from tasks.retraining import Facts, Standing, due
from tasks.training import learnt_of_version, warm_of_version

__all__ = ["promoted_before", "trainings_due"]


def trainings_due(plan: ReplayPlan, part: Slice, record: SliceRecord, settings: ReplaySettings) -> dict[str, str]:
    """Return the policies that are due to retrain after the slice, each with the reason.

    Policies that have already retrained after it are left out. After the base, all policies are due. After the last slice,
    none is, because no later events could show what the training is worth.
    """
    if part.number == plan.slices[-1].number:
        return {}
    log = ReplayLog.of(plan)
    done = log.trainings()
    found = {}
    for name, policy in settings.policies.items():
        own = [each for each in done if each.policy == name]
        if any(each.slice == part.number for each in own):
            continue
        if part.number == 0:
            found[name] = "base"
            continue
        before = log.slice(own[-1].slice)
        assert before is not None  # a slice is recorded before its trainings
        last = Standing(plan.slices[before.number].end, before.rows, before.content)
        watch = record.policies[name]
        drifted = watch.verdict == "drifted" and watch.causes != []
        why = due(policy, last, Facts(part.end, record.rows, record.content, drifted=drifted, decay=watch.decay))
        if why is not None:
            found[name] = why
    return found


def promoted_before(
    plan: ReplayPlan, part: Slice, record: SliceRecord, policy: str, why: str, settings: ReplaySettings
) -> TrainingRecord | None:
    """Return the record of a training that a killed run promoted but did not record, or None if there is none."""
    store = ReplayLog.of(plan).store
    registry = ModelRegistry(store)
    current = registry.champion_ref(settings.model_of(policy))
    if current is None or current[0].dataset != record.dataset:
        return None
    ref = current[0]
    lineage = registry.manifest(ref.name, ref.version)["lineage"]
    return TrainingRecord(
        policy=policy,
        slice=part.number,
        why=why,
        dataset=record.dataset,
        version=ref.version,
        outcome="promoted",
        reasons=[],
        champion=ref.version,
        holdout_ndcg_at_10=float(lineage["metrics"]["ndcg@10"]),
        training_s=float(lineage["duration_s"]),
        seconds=float(lineage["duration_s"]),
        warm=warm_of_version(store, ref, ref.kind) is not None,
        challenger_s=float(lineage["duration_s"]),
        learnt=learnt_of_version(store, ref, ref.kind),
    )
