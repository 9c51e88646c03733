"""Rank models and stored versions on the test requests, and find out how much of a holdout a version has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import NotFoundError
from configs.settings import EvaluationSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import Ranking, Split, rank_requests
from models.plugins import load_apart
from models.recommender import Recommender, Requests
from tasks.datasets import DatasetRef, load_dataset_ref, read_table
from tasks.training import read_split

__all__ = ["Overlap", "overlap_with", "rank", "rank_version"]


@dataclass(frozen=True, eq=False)
class Overlap:
    """What a version's own dataset has in common with the test requests of another dataset version."""

    seen_share: float  # of the target events that the version was trained or chosen on
    learnt: npt.NDArray[np.bool_]  # (R,) whether it was trained or chosen on the target, at any time unless repeats are kept
    fresh: int  # target events that its dataset does not contain


def rank(model: Recommender, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank the test requests under the protocol."""
    mask = parts.masks_seen(model.sequential)
    return rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.batch_size)


def rank_version(store: Store, ref: ModelRef, parts: Split, settings: EvaluationSettings) -> Ranking:
    """Rank a stored version on the test requests. Raises VersionCorruptError if its files differ from those that were sealed."""
    with ModelRegistry(store).fetched(ref) as folder:
        return rank(load_apart(folder), parts, settings)


def overlap_with(store: Store, ref: ModelRef, dataset: DatasetRef, settings: EvaluationSettings) -> Overlap | None:
    """Compare the test requests on `dataset` with what the version `ref` was trained and chosen on.

    That is the train and the valid part of its own dataset version under `settings`. A user may rate an item again, and only the
    newer event is kept. The version has then learnt the item of the target from an event with another time. If repeats are kept, an
    event with another time is another event, from which the version may foresee the next one.

    Args:
        store: Store of both dataset versions.
        ref: The version.
        dataset: Dataset version with the test requests.
        settings: Settings of the evaluation.

    Returns:
        The overlap, or None if the version's dataset version is no longer stored.
    """
    timed = settings.model_copy(update={"query_time": "target"})
    asked = _targets(read_split(store, dataset, timed).test)
    if ref.dataset == f"{dataset.name}/{dataset.version}":
        return Overlap(0.0, np.zeros(len(asked), dtype=bool), 0)
    try:
        own = load_dataset_ref(store, *ref.dataset.split("/"))
    except NotFoundError:
        return None
    learnt = read_split(store, own, timed)
    train = learnt.train
    events = {"user": train.user_ids[train.row_of_event], "item": train.item_ids, "time": train.timestamps}
    seen = pd.concat([pd.DataFrame(events), _targets(learnt.valid)])
    stored = read_table(store, own, "interactions", ["user_id", "item_id", "timestamp"])
    known = stored.set_axis(["user", "item", "time"], axis=1)
    every = ["user", "item", "time"]
    return Overlap(
        seen_share=float(_among(asked, seen, every).mean()),
        learnt=_among(asked, seen, every if own.properties.keeps_repeats else ["user", "item"]),
        fresh=int((~_among(asked, known, every)).sum()),
    )


def _among(asked: pd.DataFrame, events: pd.DataFrame, columns: list[str]) -> npt.NDArray[np.bool_]:
    """Return for each row of `asked` whether `events` have a row with the same values in `columns`."""
    found = asked[columns].merge(events[columns].drop_duplicates(), how="left", indicator=True)
    return (found["_merge"] == "both").to_numpy()


def _targets(requests: Requests) -> pd.DataFrame:
    return pd.DataFrame({"user": requests.user_ids, "item": requests.targets, "time": requests.request_times})
