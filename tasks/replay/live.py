"""Measure how well each policy's current champion ranks new events. All champions get the same requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import masks_seen, rank_requests
from models.plugins import load_apart
from models.recommender import IntArray, Requests
from tasks.monitoring import live_requests

__all__ = ["LiveSample", "rank_live", "same_files"]

MODEL = ("model.safetensors", "config.json", "vocabulary.parquet")


@dataclass(frozen=True)
class LiveSample:
    """Which events the champions are asked to rank."""

    since: int  # UTC seconds of the first one
    last_person: int  # users with greater ids are planted: ranking their events well serves no person
    limit: int  # maximum number of events
    seed: int  # of the sample


def same_files(store: Store, version: ModelRef) -> tuple[str, ...]:
    """Return the digests of the model files that are served. Versions with equal digests rank alike and have learnt the same events."""
    files = ModelRegistry(store).manifest(version.name, version.version)["files"]
    return tuple(files.get(f"serving/{name}", files[name]) for name in MODEL)


def rank_live(
    store: Store,
    champions: Mapping[str, ModelRef],
    events: pd.DataFrame,
    sample: LiveSample,
    settings: EvaluationSettings,
) -> pd.DataFrame | None:
    """Rank the items of a sample of events with the champion of each policy. Champions with the same files are ranked only once.

    Args:
        store: Store of the replay.
        champions: Current champion of each policy.
        events: All events known so far.
        sample: Which of the events are ranked.
        settings: How requests are made of events and ranked.

    Returns:
        user_id, target, and a column of ranks for each policy, from 1; MISS if the champion cannot recommend the item. None if
        there are no events.
    """
    people = events[events["user_id"] <= sample.last_person]
    asked = live_requests(people, sample.since - 1, settings, limit=sample.limit, seed=sample.seed)
    if not len(asked):
        return None
    known: dict[tuple[str, ...], IntArray] = {}
    columns = {}
    for policy, champion in champions.items():
        same = same_files(store, champion)
        if same not in known:
            known[same] = _ranks(store, champion, asked, settings)
        columns[policy] = known[same]
    return pd.DataFrame({"user_id": asked.user_ids, "target": asked.targets, **columns})


def _ranks(store: Store, champion: ModelRef, asked: Requests, settings: EvaluationSettings) -> IntArray:
    with ModelRegistry(store).fetched(champion, serving=True) as folder:
        model = load_apart(folder)
        masked = masks_seen(champion.protocol, model.sequential)
        ranking = rank_requests(model, asked, model.catalogue, mask_seen=masked, batch_size=settings.batch_size)
    return np.asarray(ranking.ranks, np.int64)
