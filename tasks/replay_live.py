"""How well each policy's champion of a time ranks what happens then: all are asked the same requests."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings
from infra.stores import Store
from models.loading import load_recommender
from models.ranking import rank_requests
from models.recommender import IntArray, Requests
from tasks.live_quality import live_requests
from tasks.registry import ModelRef, fetch_version, read_manifest

__all__ = ["rank_live", "same_files"]

MODEL = ("model.safetensors", "config.json", "vocabulary.parquet")


def same_files(store: Store, version: ModelRef) -> tuple[str, ...]:
    """Digests of the model's files: versions of which they are equal rank alike, and were trained on the same dataset."""
    files = read_manifest(store, version.name, version.version)["files"]
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
    """Ranks of the films of at most `limit` of the `events` (all that is known by now) from `since` (UTC seconds) on: user_id, target,
    and a column for each policy, from 1, MISS for what its champion cannot recommend.

    Events of users beyond `last_person` are asked of nobody: they are planted, and no person is served by ranking them well. None
    where nothing happened. Champions that are the same files are ranked once.
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
    files = read_manifest(store, champion.name, champion.version)["files"]
    with tempfile.TemporaryDirectory(prefix="recsys-replay-") as folder:
        model = load_recommender(fetch_version(store, champion.prefix, files, Path(folder)))
        masked = settings.protocol != "loo-recbole" or not model.sequential
        ranking = rank_requests(model, asked, model.catalogue, mask_seen=masked, batch_size=settings.batch_size)
    return np.asarray(ranking.ranks, np.int64)
