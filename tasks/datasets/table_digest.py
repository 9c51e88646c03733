"""Prepare cells for digests. Digests cover values, not file bytes, so another Parquet writer gives the same digest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["plain_cells"]


def plain_cells(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Return plain numbers unchanged, and all other or nullable cells as their text representation."""
    if column.dtype.kind in "iuf" and not pd.api.types.is_extension_array_dtype(column.dtype):
        return column.to_numpy()
    return column.astype("object").where(column.notna(), None).map(repr).to_numpy(object)
