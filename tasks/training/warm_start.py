"""Warm starts: whether a challenger begins with the champion's weights, and which events it learns then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import NotFoundError, VersionCorruptError
from configs.loading import read_recorded
from configs.settings import EvaluationSettings, RetrainSettings
from infra.erasures import erased_users
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import Split
from models.loading import load_recommender
from models.recommender import IntArray, Recommender, Sequences, WarmStart
from tasks.datasets import DatasetRef, load_dataset_ref
from tasks.training.cadence import Warm, next_start, past_of, reach_of, warm_of_version
from tasks.training.splits import read_split

__all__ = ["Beginning", "begin_warm", "choose_beginning"]

MOST_KNOWN = 0.01  # share of the test events that the parent may have learnt, as after a removal; the gate would not notice more
EVENT = ["user", "item", "time"]


@dataclass(frozen=True)
class Beginning:
    """How the challenger's training begins."""

    parent: str | None  # the version whose weights it begins with; None: from scratch
    why: str


def choose_beginning(store: Store, dataset: DatasetRef, settings: RetrainSettings) -> Beginning:
    """Decide whether the challenger of a run begins with the champion's weights, and say why."""
    start = next_start(settings.training, past_of(store, settings.model_name), reach_of(dataset))
    if not start.warm:
        return Beginning(None, start.why)
    try:
        current = ModelRegistry(store).champion_ref(settings.model_name)
        if current is None:
            return Beginning(None, "there is no champion to begin with")
        refusal = _why_not(store, dataset, current[0], settings)
    except (NotFoundError, VersionCorruptError) as error:
        return Beginning(None, f"the champion cannot be used: {error}")
    return Beginning(None, refusal) if refusal else Beginning(current[0].version, start.why)


def _why_not(store: Store, dataset: DatasetRef, champion: ModelRef, settings: RetrainSettings) -> str:
    """Return why no challenger can begin with the champion's weights, or nothing if one can."""
    if champion.kind != settings.challenger:
        return f"the champion is of the kind {champion.kind}"
    stored = ModelRegistry(store).manifest(champion.name, champion.version)["lineage"]["settings"]["evaluation"]
    evaluation = read_recorded(EvaluationSettings, stored, f"The champion {champion.version}")
    if evaluation.train_id != settings.evaluation.train_id:
        return f"the champion was trained under {evaluation.train_id}"
    own = _events_of(read_split(store, load_dataset_ref(store, *champion.dataset.split("/")), settings.evaluation).train)
    erased = int(np.isin(own["user"].unique(), list(erased_users(store))).sum())
    if erased:
        return f"the champion has learnt from {'a user' if erased == 1 else f'{erased:,} users'} whose erasure came later"
    asked = read_split(store, dataset, settings.evaluation).test
    targets = pd.DataFrame({"user": asked.user_ids, "item": asked.targets, "time": asked.request_times})
    known = float(_among(targets, own).mean()) if settings.evaluation.query_time == "target" else 0.0
    if known > MOST_KNOWN:
        return f"the champion has learnt {known:.1%} of the events that the challenger is judged on"
    return ""


def begin_warm(store: Store, parent: str, model: Recommender, parts: Split, settings: RetrainSettings) -> Warm | None:
    """Make the next `fit` of a model begin with the weights of a version. Return how warm it is, or None if its kind refuses.

    The judged weights of the version are used, because a refit has learnt the holdout.

    Raises:
        NotFoundError: The version, or its dataset, is no longer stored.
        VersionCorruptError: The version was edited.
    """
    registry = ModelRegistry(store)
    ref = registry.version(settings.model_name, parent)
    train = parts.train
    known = _events_of(read_split(store, load_dataset_ref(store, *ref.dataset.split("/")), settings.evaluation).train)
    fresh = np.zeros(len(train), bool)
    fresh[train.row_of_event[~_among(_events_of(train), known)]] = True
    before = warm_of_version(store, ref, ref.kind)
    generation = (before.generation if before else 0) + 1
    others = np.flatnonzero(~fresh)
    drawn = np.random.default_rng([settings.seed, generation]).permutation(others)
    sample = drawn[: round(settings.training.old_share * len(others))]
    rows: IntArray = np.sort(np.concatenate([np.flatnonzero(fresh), sample])).astype(np.int64)
    events = int(train.lengths[rows].sum())
    with registry.fetched(ref) as folder:
        if not len(rows) or not model.begin_with(WarmStart(load_recommender(folder), rows)):
            return None
    return Warm(parent, generation, int(fresh.sum()), len(sample), events, len(train.item_ids))


def _events_of(train: Sequences) -> pd.DataFrame:
    return pd.DataFrame({"user": train.user_ids[train.row_of_event], "item": train.item_ids, "time": train.timestamps})


def _among(asked: pd.DataFrame, events: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return for each row of `asked` whether it is one of the events."""
    found = asked.merge(events.drop_duplicates(), on=EVENT, how="left", indicator=True)
    return (found["_merge"] == "both").to_numpy()
