"""The slices of a replay: which champions watch a slice, and the record that is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from configs.errors import ReplayError
from configs.studies import ReplaySettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from tasks.datasets import DatasetRef, LandingLog, load_dataset_ref, read_table
from tasks.replay.counterfactual import drifting_without_shift
from tasks.replay.feed import Slice
from tasks.replay.live import LiveSample, rank_live, same_files
from tasks.replay.log import PolicyWatch, ReplayLog, ReplayPlan, SliceRecord
from tasks.retraining import decay_of

if TYPE_CHECKING:
    from tasks.monitoring import DriftResult

__all__ = ["champions_of", "dataset_of", "keep_slice", "watched_by_another"]


def champions_of(plan: ReplayPlan, settings: ReplaySettings) -> dict[str, tuple[str, ...]]:
    """Return the digests that identify the current champion of each policy. Equal champions are monitored only once."""
    store = ReplayLog.of(plan).store
    return {policy: same_files(store, _champion(store, settings.model_of(policy))) for policy in settings.policies}


def watched_by_another(plan: ReplayPlan, result: DriftResult, policy: str, settings: ReplaySettings) -> DriftResult:
    """Return `result`, found for another policy with the same champion, as the result of `policy`."""
    own = _champion(ReplayLog.of(plan).store, settings.model_of(policy))
    return replace(result, model_name=own.name, champion=own.version)


def keep_slice(
    plan: ReplayPlan,
    part: Slice,
    dataset: DatasetRef,
    found: Mapping[str, DriftResult],
    settings: ReplaySettings,
    seconds: dict[str, float],
) -> SliceRecord:
    """Rank the slice's events with each policy's current champion, and store the ranks with the monitoring results.

    Args:
        found: Monitoring result of each policy; empty for the base.
        seconds: Duration of each step.
    """
    log = ReplayLog.of(plan)
    ranks, champions = None, dict[str, ModelRef]()
    if found:
        champions = {policy: _champion(log.store, settings.model_of(policy)) for policy in found}
        events = read_table(log.store, dataset, "interactions", ["user_id", "item_id", "timestamp"])
        sample = LiveSample(part.start, plan.last_person, settings.live_requests, settings.seed + part.number)
        ranks = rank_live(log.store, champions, events, sample, settings.evaluation)
    unplanted = drifting_without_shift(plan, part, champions, found, settings) if found else {}
    accounts = [
        account
        for entry in LandingLog(log.store, dataset.name).entries()
        for account in entry.accounts
        if account.file == f"events-{part.number:04d}.csv"
    ]
    record = SliceRecord(
        number=part.number,
        dataset=f"{dataset.name}/{dataset.version}",
        content=dataset.version.partition("-")[0],
        rows=dataset.rows,
        delivered=sum(account.rows for account in accounts),
        accepted=sum(account.accepted for account in accounts),
        duplicates=sum(account.duplicates for account in accounts),
        quarantined=sum(account.quarantined for account in accounts),
        policies={
            policy: PolicyWatch(
                champion=str(result.champion),
                verdict=result.verdict,
                drifted=result.drifted,
                reasons=result.reasons,
                causes=result.causes,
                decay=decay_of(result),
                unplanted=unplanted.get(str(result.champion)),
            )
            for policy, result in found.items()
        },
        seconds=seconds,
    )
    log.keep_slice(record, ranks)
    return record


def dataset_of(plan: ReplayPlan, record: SliceRecord) -> DatasetRef:
    """Load the dataset version that a slice ended with."""
    name, version = record.dataset.split("/")
    return load_dataset_ref(ReplayLog.of(plan).store, name, version)


def _champion(store: Store, name: str) -> ModelRef:
    current = ModelRegistry(store).champion_ref(name)
    if current is None:
        raise ReplayError(
            f"The model {name} of the replay has no champion in {store.uri('')}. Delete that store and start again."
        )
    return current[0]
