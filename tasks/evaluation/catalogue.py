"""The item catalogue of a version: descriptions and popularity of items, stored beside the weights for serving."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.settings import NounSettings
from models.columns import Columns
from models.inference import CATALOGUE_FILE
from models.recommender import IntArray, Sequences
from models.schema import DataSchema, IdTypes
from tasks.datasets import DatasetRef

__all__ = ["schema_of", "write_catalogue"]

DESCRIBED = {Columns.ITEM, *Columns.ITEM_DESCRIPTION, Columns.EXTERNAL_ID}


def write_catalogue(
    folder: Path, catalogue: IntArray, items: pd.DataFrame, train: Sequences, schema: DataSchema | None = None
) -> Path:
    """Write `catalogue.parquet`: one row per item of the model, in the order of the model's scores.

    Its columns are item_id, title (empty if unknown), year (null if unknown), genres (joined by |), train_events, external_id if
    the ids of items are text, and the attributes of the schema: text, or float64.

    Args:
        folder: Folder of the version.
        catalogue: (n,) numbers of the items, ascending.
        items: The dataset's table of items, with the column external_id if their ids are text.
        train: Train part of the split, in which the events of each item are counted.
        schema: Properties of the data. MovieLens's if it is left out.

    Returns:
        The path of the file.
    """
    described = items.drop_duplicates("item_id").set_index("item_id").reindex(catalogue)
    inside = np.isin(train.item_ids, catalogue)
    counts = np.bincount(np.searchsorted(catalogue, train.item_ids[inside]), minlength=len(catalogue))
    columns = {
        "item_id": catalogue,
        "title": _text(described, "title").fillna("").array,
        "year": described["year"].astype("Int64").array if "year" in described else pd.array([None] * len(catalogue), "Int64"),
        "genres": _text(described, "genres").fillna("").array,
        "train_events": counts.astype(np.int64),
    }
    schema = schema or DataSchema()
    if schema.ids.item_id == "text":
        columns[Columns.EXTERNAL_ID] = described[Columns.EXTERNAL_ID].astype("string").array
    for name, kind in schema.attributes.items():
        found = _text(described, name)
        columns[name] = pd.to_numeric(found, errors="coerce").astype("Float64").array if kind == "number" else found.array
    frame = pd.DataFrame(columns)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    path = folder / CATALOGUE_FILE
    path.write_bytes(buffer.getvalue())
    return path


def schema_of(dataset: DatasetRef, items: pd.DataFrame, nouns: NounSettings) -> DataSchema:
    """Return what serving must know of a dataset.

    Args:
        dataset: The dataset version.
        items: Its table of items. The columns beside the descriptions of MovieLens are the team's attributes.
        nouns: The team's words.
    """
    own = dataset.properties
    return DataSchema(
        IdTypes(own.user_ids, own.item_ids),
        own.feedback,
        own.repeats,
        {
            str(name): "number" if pd.api.types.is_numeric_dtype(items[name]) else "category"
            for name in items.columns
            if name not in DESCRIBED
        },
        nouns,
    )


def _text(described: pd.DataFrame, name: str) -> pd.Series[str]:
    """Return a column as text. It is missing throughout if the table does not have it."""
    if name not in described:
        return pd.Series(pd.NA, described.index, dtype="string")
    return described[name].astype("string")
