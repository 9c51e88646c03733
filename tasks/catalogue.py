"""What serving shows of a version's items: titles, years, genres and popularity, stored beside the weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models.recommender import IntArray, Sequences
from models.version_files import CATALOGUE_FILE

__all__ = ["write_catalogue"]


def write_catalogue(folder: Path, catalogue: IntArray, items: pd.DataFrame, train: Sequences) -> Path:
    """Write `catalogue.parquet`: a row for each item of the model, in the order of its scores.

    Columns movie_id, title (empty where none is known), year (null where it is unknown), genres (joined by |) and train_events.
    `catalogue` (n,) raw ids, ascending; `items` is the dataset's table.
    """
    described = items.drop_duplicates("movie_id").set_index("movie_id").reindex(catalogue)
    inside = np.isin(train.item_ids, catalogue)
    counts = np.bincount(np.searchsorted(catalogue, train.item_ids[inside]), minlength=len(catalogue))
    frame = pd.DataFrame(
        {
            "movie_id": catalogue,
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
