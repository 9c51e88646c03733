"""Rank models and stored versions on the test requests, and find out how much of a holdout a version has seen."""

from __future__ import annotations

import pandas as pd

from configs.errors import NotFoundError
from configs.settings import EvaluationSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import Ranking, Split, rank_requests
from models.loading import load_recommender
from models.recommender import Recommender, Requests
from tasks.datasets import DatasetRef, load_dataset_ref
from tasks.training import read_split

__all__ = ["rank", "rank_version", "seen_share"]


def rank(model: Recommender, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank the test requests under the protocol."""
    mask = parts.masks_seen(model.sequential)
    return rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.batch_size)


def rank_version(store: Store, ref: ModelRef, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank a stored version on the test requests. Raises VersionCorruptError if its files differ from those that were sealed."""
    with ModelRegistry(store).fetched(ref) as folder:
        return rank(load_recommender(folder), parts, settings)


def seen_share(store: Store, ref: ModelRef, dataset: DatasetRef, settings: EvaluationSettings) -> float | None:
    """Return the share of test requests on `dataset` whose target event the version `ref` was trained or chosen on.

    Such an event is in the train or the valid part of the version's own dataset version under `settings`. Returns None if that
    dataset version is no longer stored.
    """
    if ref.dataset == f"{dataset.name}/{dataset.version}":
        return 0.0
    try:
        own = load_dataset_ref(store, *ref.dataset.split("/"))
    except NotFoundError:
        return None
    timed = settings.model_copy(update={"query_time": "target"})
    learnt, asked = read_split(store, own, timed), read_split(store, dataset, timed).test
    train = learnt.train
    events = {"user": train.user_ids[train.row_of_event], "item": train.item_ids, "time": train.timestamps}
    seen = pd.concat([pd.DataFrame(events), _targets(learnt.valid)]).drop_duplicates()
    found = _targets(asked).merge(seen, how="left", indicator=True)
    return float((found["_merge"] == "both").mean())


def _targets(requests: Requests) -> pd.DataFrame:
    return pd.DataFrame({"user": requests.user_ids, "item": requests.targets, "time": requests.request_times})
