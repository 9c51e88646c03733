"""The split of a stored dataset version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from configs.settings import EvaluationSettings
from infra.storage import Store
from models.evaluation import Split, split
from tasks.datasets import DatasetRef, read_table

__all__ = ["read_split"]


def read_split(store: Store, dataset: DatasetRef, settings: EvaluationSettings, *, whole: bool = False) -> Split:
    """Load the dataset version and split it under the configured protocol. With `whole`, the train part has all events.

    With `new_items`, the catalogue also has the described items without train events.
    """
    columns = list(dataset.properties.with_weight(("user_id", "item_id", "timestamp", "row")))
    if dataset.properties.feedback == "explicit":
        columns.append("rating")
    events = read_table(store, dataset, "interactions", columns)
    parts = split(events, settings, repeats=dataset.properties.repeats, whole=whole)
    if not settings.new_items:
        return parts
    described = read_table(store, dataset, "items", ["item_id"])["item_id"].to_numpy(np.int64)
    return replace(parts, catalogue=np.union1d(parts.catalogue, described))
