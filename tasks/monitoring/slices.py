"""Cut the slices that monitoring judges: the newest events by their own time, and what has arrived since the last look.

By event time alone, a delivery that is dated before the champion's last training event would never be judged. By arrival alone, an
old upload would be taken for news. So both are judged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.clock import horizon
from configs.errors import DataRefusedError, NotFoundError
from configs.settings import DriftSettings
from infra.storage import Store
from models.columns import Columns
from tasks.datasets import DatasetRef, list_datasets, load_dataset_ref, read_table
from tasks.monitoring.arrival_checks import Window
from tasks.monitoring.reference import without_strays

__all__ = ["Known", "arrival_window", "known_to", "last_look", "newest_slice", "previous_version", "window_of"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Known:
    """The events of a dataset version that an earlier version has."""

    earlier: DatasetRef
    rows: Mask  # (N,) whether the earlier version has the event, by rows of the later one
    until: int  # UTC seconds that the earlier version's events reach


def newest_slice(
    features: pd.DataFrame,
    settings: DriftSettings,
    after: int | None = None,
    since: int | None = None,
    known: Mask | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the features by time into the older events and the newest slice.

    Events of the same second stay together. By default the slice is drift.slice_share of the events.

    Args:
        after: UTC seconds. The slice contains only events later than this.
        since: UTC seconds. The slice is all events from this time on; the other limits are then ignored.
        known: Events that the champion has learnt, (len(features),). The slice contains none of them, whatever their time.

    Returns:
        The older events and the newest slice.

    Raises:
        DataRefusedError: There are no events.
    """
    if features.empty:
        raise DataRefusedError("The dataset version has no events, so it has no newest slice. Ingest events first.")
    times = features["timestamp"].to_numpy(np.int64)
    cut = since if since is not None else int(np.quantile(times, 1 - settings.slice_share, method="higher"))
    if since is None and after is not None:
        cut = max(cut, after + 1)
    newest = times >= cut
    if since is None and known is not None:
        newest &= ~known
    return features[~newest], features[newest]


def window_of(older: pd.DataFrame, newest: pd.DataFrame, now: int | None = None) -> Window | None:
    """Return the time that `newest` covers after `older`, or None if `older` is empty."""
    if older.empty:
        return None
    times = older["timestamp"].to_numpy(np.int64)
    if len(newest):  # events that arrived late, or that have a wild time, do not move the start
        first = int(newest["timestamp"].min())
        times = times[times < first] if (times < first).any() else np.array([first])
    return Window(horizon(times), now, older["user_id"].unique().astype(np.int64))


def arrival_window(arrived: pd.DataFrame) -> Window:
    """Return the time that the events of an arrival cover. It says nothing about when they arrived."""
    times = np.sort(arrived["timestamp"].to_numpy(np.int64))
    times = times[without_strays(len(times))]
    return Window(int(times[0]) - 1, None, np.empty(0, dtype=np.int64))


def known_to(store: Store, earlier: DatasetRef | None, dataset: DatasetRef, features: pd.DataFrame) -> Known | None:
    """Return which events an earlier version of the dataset has, or None if it is another dataset or no longer stored."""
    if earlier is None or earlier.name != dataset.name:
        return None
    if (earlier.name, earlier.version) == (dataset.name, dataset.version):
        before = features
    else:
        before = read_table(store, earlier, "interactions", [name for name in Columns.EVENT if name in features])
    times = before[Columns.TIME].to_numpy(np.int64)
    until = earlier.horizon if earlier.horizon is not None else horizon(times)
    return Known(earlier, np.isin(_fingerprints(features), _fingerprints(before)), until)


def last_look(store: Store, dataset: DatasetRef, model_name: str, champion: DatasetRef | None, least: int) -> DatasetRef | None:
    """Return the version that was monitored for the model last, at least `least` events ago, and after the champion's version.

    If there is none, it is the champion's version. A look at a few events does not count, because they could not be judged; they
    are judged with those that follow.
    """
    looked = {key.split("/")[2] for key in store.list(f"drift/{dataset.name}/") if key.endswith(".json")}
    for ref in reversed(list_datasets(store)):
        if ref.name != dataset.name or not ref.number or not (champion.number if champion else 0) < ref.number < dataset.number:
            continue
        if ref.version in looked and ref.rows + least <= dataset.rows and _was_looked_at(store, ref, model_name):
            return ref
    return champion


def previous_version(store: Store, dataset: DatasetRef) -> DatasetRef | None:
    """Return the version before this one with other content, or None if there is none."""
    content = dataset.version.partition("-")[0]
    while dataset.parents:
        try:
            dataset = load_dataset_ref(store, *dataset.parents[0].split("/"))
        except NotFoundError:
            return None
        if dataset.version.partition("-")[0] != content:
            return dataset
    return None


def _was_looked_at(store: Store, ref: DatasetRef, model_name: str) -> bool:
    keys = (key for key in store.list(f"drift/{ref.name}/{ref.version}/") if key.endswith(".json"))
    for _, content in store.listed(keys):
        try:
            if json.loads(content).get("model_name") == model_name:
                return True
        except ValueError:
            continue
    return False


def _fingerprints(events: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """Return a hash of each event: user, item, rating (if there are ratings) and time."""
    kinds = {Columns.USER: "int64", Columns.ITEM: "int64", Columns.RATING: "float64", Columns.TIME: "int64"}
    columns = [name for name in Columns.EVENT if name in events]
    return np.asarray(
        pd.util.hash_pandas_object(events[columns].astype({name: kinds[name] for name in columns}), index=False), np.uint64
    )
