"""The slices of the test requests that are reported and gated separately: the usual ones, and those by attributes of the team's choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import SettingsError
from configs.settings import DEFAULT_NOUNS, NounSettings
from infra.storage import Store
from models.columns import Columns
from models.evaluation import Split, slices
from tasks.datasets import DatasetRef, read_table

__all__ = ["request_slices"]

MOST_VALUES = 5
"""The most frequent values of an attribute that form a slice each."""
NEW_ITEMS = "new_items=True"  # part of the id of a protocol that ranks items without train events
Mask = npt.NDArray[np.bool_]


def request_slices(
    store: Store, dataset: DatasetRef, parts: Split, attributes: tuple[str, ...], nouns: NounSettings = DEFAULT_NOUNS
) -> dict[str, Mask]:
    """Return masks (R,) of the slices of the test requests, in the team's words.

    An attribute of users groups the requests by their user, and one of items by their target. Each of its most frequent values is a
    slice. If it is a number, its lowest and its highest quarter are slices.

    Args:
        store: Store of the dataset.
        dataset: Dataset version with the tables of items and users.
        parts: The split with the test requests.
        attributes: Names of attributes (`evaluation.slices`).
        nouns: The words for the data.

    Raises:
        SettingsError: Neither items nor users have an attribute of this name.
    """
    found = slices(parts.train, parts.test)
    new = np.isin(parts.test.targets, parts.catalogue) & ~np.isin(parts.test.targets, parts.train.item_ids)
    if NEW_ITEMS in parts.id.split(";") and new.any():
        found["new items"] = new
    named = {_in_words(name, nouns): mask for name, mask in found.items()}
    if not attributes:
        return named
    tables = [
        (read_table(store, dataset, "items"), Columns.ITEM, parts.test.targets),
        (read_table(store, dataset, "users"), Columns.USER, parts.test.user_ids),
    ]
    known = [str(name) for table, key, _ in tables for name in table.columns if name not in (key, Columns.TITLE)]
    for attribute in attributes:
        if attribute not in known:
            raise SettingsError(
                f"evaluation.slices names {attribute}, which is not an attribute of {nouns.items} or {nouns.users} in {dataset.name}/"
                f"{dataset.version}. They have {', '.join(dict.fromkeys(known)) or 'none'}. Remove it, or add its column to "
                "data.columns_items.attributes or data.columns_users.attributes."
            )
        for table, key, ids in tables:
            if attribute in table.columns:
                cells = pd.Series(ids).map(table.set_index(key)[attribute])
                named.update(_groups(attribute, cells))
    return named


def _in_words(name: str, nouns: NounSettings) -> str:
    """Return the name of a usual slice in the team's words, such as `new customers` for `new users`."""
    kind, _, whose = name.partition(" ")
    if whose == "items":
        return f"{kind} {'items' if nouns.items == DEFAULT_NOUNS.items else nouns.items}"
    return f"{kind} {nouns.users}"


def _groups(attribute: str, cells: pd.Series[Any]) -> Iterator[tuple[str, Mask]]:
    """Yield the slices by one attribute. Requests whose user or item has no value are in none of them."""
    if pd.api.types.is_numeric_dtype(cells):
        values = cells.to_numpy(np.float64, na_value=np.nan)
        if len(np.unique(values[np.isfinite(values)])) > 1:
            low, high = np.nanquantile(values, [0.25, 0.75])
            yield f"{attribute} up to {low:g}", values <= low
            yield f"{attribute} from {high:g}", values >= high
        return
    several = attribute == Columns.GENRES  # an item may have several, joined by |
    texts = cells.astype("string").fillna("")
    lists = texts.str.split("|") if several else texts.map(lambda text: [text])
    counts = lists.explode().value_counts()
    for value in counts.index[counts.index != ""][:MOST_VALUES]:
        yield f"{attribute} {value}", lists.map(lambda found, value=value: value in found).to_numpy(bool)
