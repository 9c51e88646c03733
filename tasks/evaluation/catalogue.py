"""The item catalogue of a version: titles, years, genres and popularity, stored beside the weights for serving."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models.inference import CATALOGUE_FILE
from models.recommender import IntArray, Sequences

__all__ = ["write_catalogue"]


def write_catalogue(folder: Path, catalogue: IntArray, items: pd.DataFrame, train: Sequences) -> Path:
    """Write `catalogue.parquet`: one row per item of the model, in the order of the model's scores.

    Its columns are item_id, title (empty if unknown), year (null if unknown), genres (joined by |) and train_events.

    Args:
        folder: Folder of the version.
        catalogue: (n,) raw item ids, ascending.
        items: The dataset's table of items.
        train: Train part of the split, in which the events of each item are counted.

    Returns:
        The path of the file.
    """
    described = items.drop_duplicates("item_id").set_index("item_id").reindex(catalogue)
    inside = np.isin(train.item_ids, catalogue)
    counts = np.bincount(np.searchsorted(catalogue, train.item_ids[inside]), minlength=len(catalogue))
    frame = pd.DataFrame(
        {
            "item_id": catalogue,
            "title": described["title"].astype("string").fillna("").array,
            "year": described["year"].astype("Int64").array,
            "genres": described["genres"].astype("string").fillna("").array,
            "train_events": counts.astype(np.int64),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    path = folder / CATALOGUE_FILE
    path.write_bytes(buffer.getvalue())
    return path
