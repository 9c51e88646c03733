"""The plan of a replay: its data, its slices, and the settings of the retrainings in it."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from configs.clock import wall_clock
from configs.errors import ReplayError
from configs.redaction import safe_settings
from configs.renames import current_names
from configs.settings import (
    ColumnSettings,
    DataSettings,
    ItemColumnSettings,
    RetrainSettings,
    RolloutSettings,
    StoreSettings,
    UserColumnSettings,
)
from configs.studies import PlayedPolicySettings, ReplaySettings
from infra.digests import sha256_of_json
from infra.locks import run_lock
from infra.registry import git_commit
from models.columns import Columns
from tasks.ingest import ingest
from tasks.replay.feed import feed_of, write_feed
from tasks.replay.log import ReplayLog, ReplayPlan

__all__ = ["OF_TRAINING", "plan_replay", "run_settings"]

# Settings that affect neither what happens in a replay nor the quality that it measures.
NO_PART = {"id", "store", "work_dir", "hourly_price", "alpha", "resamples", "bootstrap_seed", "tracking"}


OF_TRAINING = ("refit", "warm_start", "full_every", "full_days")
"""Settings of `training` that a policy may have of its own."""


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
    feed = feed_of(source, settings, wall_clock())
    plan = ReplayPlan(
        id=id_,
        source=source.name,
        source_hashes=source.source_hashes,
        slices=feed.slices,
        last_person=feed.last_person,
        folder=str((settings.work_dir / "replays" / id_).absolute()),
        store=_store_of(settings.store, id_),
        settings=chosen,
    )
    kept = ReplayLog.of(plan).begin(plan)
    before = current_names([ReplaySettings], kept.settings)
    before = {name: _complete(getattr(settings, name), before.get(name)) for name in chosen}
    changed = [name for name in chosen if _comparable(name, before[name]) != _comparable(name, chosen[name])]
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


def _store_of(store: StoreSettings, id_: str) -> StoreSettings:
    """Return the settings of a replay's own store, which is a folder of the store."""
    addresses = {"url": store.url, "pages_url": store.pages_url}
    return store.model_copy(update={name: given and f"{given.rstrip('/')}/replays/{id_}" for name, given in addresses.items()})


def run_settings(plan: ReplayPlan, settings: ReplaySettings, policy: str | None = None) -> RetrainSettings:
    """Return the settings of a retraining in the replay's own store.

    They are for the model of `policy` or, without a policy, for the steps that all policies share.
    """
    values = {name: getattr(settings, name) for name in RetrainSettings.model_fields}
    folder = Path(plan.folder)
    own: PlayedPolicySettings = settings.policies[policy] if policy else PlayedPolicySettings()
    training = {name: said for name in OF_TRAINING if (said := getattr(own, name)) is not None}
    return RetrainSettings(
        **{
            **values,
            "model_name": settings.model_of(policy) if policy else settings.model_name,
            "data": _of_slices(settings.data, str(plan.zone)),
            # Files are delivered complete, so each is read as soon as its slice ends, and counts for that slice, not the next.
            "landing": settings.landing.model_copy(update={"base": "none", "settle_s": 0.0}),
            "etl": settings.etl.model_copy(update={"work_dir": folder / "etl"}),
            "rollout": RolloutSettings(),  # the slices are past: nobody is served
            "store": plan.store,
            "work_dir": folder / "work",
            "training": settings.training.model_copy(update=training),
        }
    )


def _of_slices(data: DataSettings, zone: str) -> DataSettings:
    """Return how the files of the slices are read. Their columns have the usual names, whatever the team's files call them."""
    usual = {
        "columns": ColumnSettings(weight=Columns.WEIGHT if data.columns.weight else None),
        "columns_items": ItemColumnSettings(attributes=data.columns_items.attributes),
        "columns_users": UserColumnSettings(attributes=data.columns_users.attributes),
    }
    return data.model_copy(update={**usual, "landing": zone, "timestamp_format": "s", "timezone": None, "weights": {}})


def _complete(like: Any, stored: Any) -> Any:
    """Return stored settings with the defaults of those that were added to their section since. `like` are the settings of now."""
    if isinstance(like, BaseModel) and isinstance(stored, dict):
        fields = {name: field for name, field in type(like).model_fields.items() if name in stored or not field.is_required()}
        found = {
            name: _complete(getattr(like, name), stored[name]) if name in stored else _plain(field.get_default())
            for name, field in fields.items()
        }
        return found | {name: value for name, value in stored.items() if name not in found}
    if isinstance(like, dict) and isinstance(stored, dict):
        return {name: _complete(like[name], each) if name in like else each for name, each in stored.items()}
    return stored


def _plain(value: Any) -> Any:
    return safe_settings(value) if isinstance(value, BaseModel) else value


def _comparable(name: str, value: Any) -> str:
    """Return a setting as text. The order of keys matters for the policies only: the others are compared with the first one."""
    return json.dumps(value, sort_keys=name != "policies")


def _cuts(plan: ReplayPlan) -> list[tuple[int, int]]:
    """Return the start of each slice, and its number of rows."""
    return [(part.start, part.rows) for part in plan.slices]


def _content_id(source_hashes: dict[str, str], chosen: dict[str, object]) -> str:
    code = git_commit() or importlib.metadata.version("movielens-recsys")
    return sha256_of_json([source_hashes, chosen, code])[:12]
