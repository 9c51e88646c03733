"""The plain steps of a replay: the plan, the slice records, the policies that are due, and their trainings."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ReplayError
from configs.redaction import safe_settings
from configs.settings import RetrainSettings
from configs.studies import ReplaySettings
from infra.digests import sha256_of_json
from infra.locks import run_lock
from infra.registry import ModelRef, ModelRegistry, git_commit
from infra.storage import Store
from tasks.datasets import DatasetRef, LandingLog, load_dataset_ref, read_table
from tasks.ingest import ingest
from tasks.replay.feed import Slice, feed_of, write_feed
from tasks.replay.live import rank_live, same_files
from tasks.replay.log import PolicyWatch, ReplayLog, ReplayPlan, SliceRecord, TrainingRecord
from tasks.replay.policies import Standing, due

if TYPE_CHECKING:
    from tasks.monitoring import DriftResult

__all__ = [
    "champions_of",
    "dataset_of",
    "keep_slice",
    "plan_replay",
    "promoted_before",
    "run_settings",
    "trainings_due",
    "watched_by_another",
]

# Settings that affect neither what happens in a replay nor the quality that it measures.
NO_PART = {"id", "store", "work_dir", "hourly_price", "alpha", "resamples", "bootstrap_seed", "tracking"}


def plan_replay(settings: ReplaySettings) -> ReplayPlan:
    """Read the release, cut it into slices, and write their files. A replay that was started before is found again.

    Raises:
        SourceError: The release cannot be read.
        ReplayError: The release is too short, or the replay of this id was started with other data or settings.
        RunInProgressError: The replay is running in another process.
    """
    source = ingest(settings.data)
    chosen = {name: value for name, value in safe_settings(settings).items() if name not in NO_PART}
    id_ = settings.id or _content_id(source.source_hashes, chosen)
    feed = feed_of(source, settings, time.time())
    plan = ReplayPlan(
        id=id_,
        source=source.name,
        source_hashes=source.source_hashes,
        slices=feed.slices,
        last_person=feed.last_person,
        folder=str((settings.work_dir / "replays" / id_).absolute()),
        store=settings.store.model_copy(update={"url": f"{settings.store.url.rstrip('/')}/replays/{id_}"}),
        settings=chosen,
    )
    kept = ReplayLog.of(plan).begin(plan)
    changed = [name for name in chosen if json.dumps(kept.settings.get(name)) != json.dumps(chosen[name])]
    if kept.source_hashes != plan.source_hashes:
        changed.insert(0, "the source's files")
    if not changed and _cuts(kept) != _cuts(plan):  # the code or the clock accepts other rows as possible events
        changed.append("the slices")
    if changed:
        raise ReplayError(
            f"The replay {id_} was started with other settings; {', '.join(changed)} differ. Use the same settings, or give this "
            "replay another id."
        )
    with run_lock(settings.work_dir, f"replay-{id_}"):  # the holder of the lock delivers from the feed
        write_feed(feed, kept.feed)
    return kept


def run_settings(plan: ReplayPlan, settings: ReplaySettings, policy: str | None = None) -> RetrainSettings:
    """Return the settings of a retraining in the replay's own store.

    They are for the model of `policy` or, without a policy, for the steps that all policies share.
    """
    values = {name: getattr(settings, name) for name in RetrainSettings.model_fields}
    folder = Path(plan.folder)
    return RetrainSettings(
        **{
            **values,
            "model_name": settings.model_of(policy) if policy else settings.model_name,
            "data": settings.data.model_copy(update={"landing": str(plan.zone)}),
            # Files are delivered complete, so each is read as soon as its slice ends, and counts for that slice, not the next.
            "landing": settings.landing.model_copy(update={"base": "none", "settle_s": 0.0}),
            "etl": settings.etl.model_copy(update={"work_dir": folder / "etl"}),
            "store": plan.store,
            "work_dir": folder / "work",
        }
    )


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
    ranks = None
    if found:
        champions = {policy: _champion(log.store, settings.model_of(policy)) for policy in found}
        events = read_table(log.store, dataset, "interactions", ["user_id", "movie_id", "timestamp"])
        ranks = rank_live(
            log.store,
            champions,
            events,
            part.start,
            settings.evaluation,
            last_person=plan.last_person,
            limit=settings.live_requests,
            seed=settings.seed + part.number,
        )
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
            policy: PolicyWatch(str(result.champion), result.verdict, result.drifted, result.reasons)
            for policy, result in found.items()
        },
        seconds=seconds,
    )
    log.keep_slice(record, ranks)
    return record


def champions_of(plan: ReplayPlan, settings: ReplaySettings) -> dict[str, tuple[str, ...]]:
    """Return the digests that identify the current champion of each policy. Equal champions are monitored only once."""
    store = ReplayLog.of(plan).store
    return {policy: same_files(store, _champion(store, settings.model_of(policy))) for policy in settings.policies}


def watched_by_another(plan: ReplayPlan, result: DriftResult, policy: str, settings: ReplaySettings) -> DriftResult:
    """Return `result`, found for another policy with the same champion, as the result of `policy`."""
    own = _champion(ReplayLog.of(plan).store, settings.model_of(policy))
    return replace(result, model_name=own.name, champion=own.version)


def dataset_of(plan: ReplayPlan, record: SliceRecord) -> DatasetRef:
    """Load the dataset version that a slice ended with."""
    name, version = record.dataset.split("/")
    return load_dataset_ref(ReplayLog.of(plan).store, name, version)


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
        drifted = record.policies[name].verdict == "drifted"
        why = due(policy, last, end=part.end, rows=record.rows, content=record.content, drifted=drifted)
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
    )


def _champion(store: Store, name: str) -> ModelRef:
    current = ModelRegistry(store).champion_ref(name)
    if current is None:
        raise ReplayError(
            f"The model {name} of the replay has no champion in {store.uri('')}. Delete that store and start again."
        )
    return current[0]


def _cuts(plan: ReplayPlan) -> list[tuple[int, int]]:
    """Return the start of each slice, and its number of rows."""
    return [(part.start, part.rows) for part in plan.slices]


def _content_id(source_hashes: dict[str, str], chosen: dict[str, object]) -> str:
    code = git_commit() or importlib.metadata.version("movielens-recsys")
    return sha256_of_json([source_hashes, chosen, code])[:12]
