"""The attributes of items and users that a team chooses, beside the descriptions that every dataset has.

They are kept as text, as they were written, with the time and origin of each cell. (A release keeps one as numbers if no text is lost.) Whether an attribute is a number or text is decided
by all its values whenever the table is read, so neither the first delivery nor the order of deliveries decides it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import SettingsError
from models.columns import Columns

__all__ = ["attributes_in", "compact", "refuse_clashes", "typed", "widened", "written"]

NUMBER = r"^[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"  # 007 is text


def attributes_in(table: pd.DataFrame, known: Iterable[str]) -> list[str]:
    """Return the attributes of a table, in alphabetical order.

    Args:
        table: A table of items or users, with or without the time and origin of each cell.
        known: The id and the descriptions that every such table has.
    """
    fixed = {*known, Columns.HAS_EVENTS, Columns.DESCRIBED_AT, Columns.DESCRIBED_IN}
    names = [str(name) for name in table.columns]
    state = {of(name) for name in names for of in (Columns.time_of, Columns.origin_of) if of(name) in names}
    return sorted(set(names) - fixed - state)


def refuse_clashes(names: Collection[str]) -> None:
    """Raise SettingsError if a table of these descriptions would store two things under one name."""
    for name in names:
        for state in (Columns.time_of(name), Columns.origin_of(name)):
            if state in names:
                raise SettingsError(
                    f"The attributes {name} and {state} cannot be in one dataset, which has one of them already: it stores the time and "
                    f"the file of each {name} under {Columns.time_of(name)} and {Columns.origin_of(name)}. Rename one of the two columns."
                )


def typed(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values of an attribute as numbers if all of them are, and otherwise as text."""
    texts = pa.array(cells.astype("string"), pa.string(), from_pandas=True).drop_null()
    if len(texts) and pc.all(pc.match_substring_regex(texts, NUMBER)).as_py():
        numbers = pd.to_numeric(cells.astype("string"), errors="coerce").astype("Float64")
        if bool(np.isfinite(numbers.dropna().to_numpy(np.float64)).all()):
            return numbers
    return cells.astype("string")


def written(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values of an attribute as text, numbers in their shortest form."""
    if not pd.api.types.is_numeric_dtype(cells):
        return cells.astype("string")
    texts = [None if pd.isna(cell) else repr(float(cell)).removesuffix(".0") for cell in cells]
    return pd.Series(texts, index=cells.index, dtype="string")


def compact(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values of an attribute as numbers if `written` gives back the text of each, and otherwise as text."""
    texts = written(cells)
    numbers = typed(texts)
    return numbers if written(numbers).equals(texts) else texts


def widened(table: pd.DataFrame, attributes: Iterable[str], undescribed: int) -> pd.DataFrame:
    """Return a table, with the time and origin of each cell, that has these attributes. Those that it lacked are empty.

    `undescribed` is the time of an empty cell.
    """
    missing = [name for name in attributes if name not in table]
    columns: dict[str, Any] = {}
    for name in missing:
        columns[name] = pd.array([pd.NA] * len(table), dtype="string")
        columns[Columns.time_of(name)] = np.full(len(table), undescribed, dtype=np.int64)
        columns[Columns.origin_of(name)] = np.zeros(len(table), dtype=np.int64)
    return table.assign(**columns) if missing else table
