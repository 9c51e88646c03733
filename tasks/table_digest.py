"""Cells as they are digested: values, not bytes of files, so that another Parquet writer makes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["plain_cells"]


def plain_cells(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Numbers as they are; all else, and what may be missing, as the text that stands for it."""
    if column.dtype.kind in "iuf" and not pd.api.types.is_extension_array_dtype(column.dtype):
        return column.to_numpy()
    return column.astype("object").where(column.notna(), None).map(repr).to_numpy(object)
