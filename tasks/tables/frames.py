"""Tables of events: the types of their columns, and empty ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from models.columns import Columns

__all__ = ["column_type", "empty_table", "schema_of"]


def column_type(name: str) -> type[np.float64] | type[np.int64]:
    """Return the type of a column of events."""
    return np.float64 if name in (Columns.RATING, Columns.WEIGHT) else np.int64


def empty_table(columns: Iterable[str]) -> pd.DataFrame:
    """Return a table of events without rows."""
    return pd.DataFrame({name: pd.Series(dtype=column_type(name)) for name in columns})


def schema_of(columns: Iterable[str]) -> pa.Schema:
    """Return the schema of a Parquet file of events."""
    return pa.schema([(name, pa.from_numpy_dtype(column_type(name))) for name in columns])
