"""The split of a stored dataset version."""

from __future__ import annotations

from configs.settings import EvaluationSettings
from infra.storage import Store
from models.evaluation import Split, split
from tasks.datasets import DatasetRef, read_table

__all__ = ["read_split"]


def read_split(store: Store, dataset: DatasetRef, settings: EvaluationSettings, *, whole: bool = False) -> Split:
    """Load the dataset version and split it under the configured protocol. With `whole`, the train part has all events."""
    columns = list(dataset.properties.with_weight(("user_id", "item_id", "timestamp", "row")))
    if dataset.properties.feedback == "explicit":
        columns.append("rating")
    events = read_table(store, dataset, "interactions", columns)
    return split(events, settings, repeats=dataset.properties.repeats, whole=whole)
