"""Measure how well each policy's current champion ranks new events. All champions get the same requests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import rank_requests
from models.loading import load_recommender
from models.recommender import IntArray, Requests
from tasks.monitoring import live_requests

__all__ = ["rank_live", "same_files"]

MODEL = ("model.safetensors", "config.json", "vocabulary.parquet")


def same_files(store: Store, version: ModelRef) -> tuple[str, ...]:
    """Return the digests of the model's files. Versions with equal digests rank alike and were trained on the same dataset."""
    files = ModelRegistry(store).manifest(version.name, version.version)["files"]
    return tuple(files[name] for name in MODEL)


def rank_live(
    store: Store,
    champions: Mapping[str, ModelRef],
    events: pd.DataFrame,
    since: int,
    settings: EvaluationSettings,
    *,
    last_person: int,
    limit: int,
    seed: int,
) -> pd.DataFrame | None:
    """Rank the films of at most `limit` events from `since` (UTC seconds) on, with the champion of each policy.

    Users with ids above `last_person` are planted. Their events are not used as requests, because ranking them well serves no
    person. Champions with the same files are ranked only once.

    Args:
        events: All events known so far.

    Returns:
        user_id, target, and a column of ranks for each policy, from 1; MISS if the champion cannot recommend the film. None if
        there are no events.
    """
    people = events[events["user_id"] <= last_person]
    asked = live_requests(people, since - 1, settings, limit=limit, seed=seed)
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
    with ModelRegistry(store).fetched(champion) as folder:
        model = load_recommender(folder)
        masked = settings.protocol != "loo-recbole" or not model.sequential
        ranking = rank_requests(model, asked, model.catalogue, mask_seen=masked, batch_size=settings.batch_size)
    return np.asarray(ranking.ranks, np.int64)
