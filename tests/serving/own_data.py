"""A version of a shop, whose ids are text and whose items have attributes, as serving finds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings, NounSettings
from models.evaluation import Split, split
from models.identity import number_of
from models.schema import DataSchema, IdTypes
from tasks.evaluation.catalogue import write_catalogue
from tests import synthetic
from tests.serving.versions import draw
from tests.tasks.stored import small_split

__all__ = ["SHOP", "draw_shop", "named", "shop_items", "shop_split", "sku"]

SHOP = DataSchema(
    IdTypes("text", "text"),
    "implicit",
    "keep",
    {"brand": "category", "price": "number"},
    NounSettings(item="product", items="products", event="event", events="events"),
)


def sku(item: int) -> str:
    """Return the shop's id of an item of `small_split`."""
    return f"SKU/{item:04d}"


def named(user: int) -> str:
    """Return the shop's id of a user of `small_split`."""
    return f"müller@{user}"


def shop_split() -> Split:
    """Return the events of `small_split` with the numbers of text ids."""
    frame = synthetic.interactions(60, 40, 25, seed=0)
    frame["user_id"] = [number_of(named(user)) for user in frame["user_id"]]
    frame["item_id"] = [number_of(sku(item)) for item in frame["item_id"]]
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def shop_items() -> pd.DataFrame:
    """Return the shop's table of items: no titles, years or genres."""
    raw = [int(item) for item in small_split().catalogue]
    return pd.DataFrame(
        {
            "item_id": [number_of(sku(item)) for item in raw],
            "external_id": [sku(item) for item in raw],
            "brand": [["Acme", "Birk", None][item % 3] for item in raw],
            "price": [None if item % 7 == 0 else float(item) for item in raw],
        }
    )


def draw_shop(folder: Path, seed: int = 0, schema: DataSchema = SHOP) -> None:
    """Write the files of a version of the shop to `folder`."""
    parts = shop_split()
    draw(folder, seed, parts)
    write_catalogue(folder, parts.catalogue, shop_items(), parts.train, schema)
    schema.write(folder)
