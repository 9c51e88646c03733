"""The names and types of the columns of events and of their tables. No other module spells them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

__all__ = ["Columns", "column_type", "empty_table", "schema_of"]


class Columns:
    """Names of columns. The tuples are the columns of a table, in order."""

    # Events
    USER = "user_id"
    ITEM = "movie_id"
    RATING = "rating"
    TIME = "timestamp"  # UTC seconds
    ROW = "row"  # position in the source
    FILE = "file"  # ordinal of the file that the event comes from
    EVENT = (USER, ITEM, RATING, TIME)
    INTERACTION = (*EVENT, ROW)
    FILE_EVENT = (*INTERACTION, FILE)

    # Items and users
    TITLE = "title"
    YEAR = "year"
    GENRES = "genres"
    ITEM_DESCRIPTION = (TITLE, YEAR, GENRES)
    GENDER = "gender"
    AGE = "age"
    OCCUPATION = "occupation"
    ZIP_CODE = "zip_code"
    USER_DESCRIPTION = (GENDER, AGE, OCCUPATION, ZIP_CODE)
    UPDATED_AT = "updated_at"  # UTC seconds, in a file of descriptions
    HAS_EVENTS = "rated"
    DESCRIBED_AT = "described_at"  # UTC nanoseconds
    DESCRIBED_IN = "described_in"  # sha256 of the file

    # Features of an event
    USER_INDEX = "user_idx"
    ITEM_INDEX = "movie_idx"
    RATING_DATE = "rating_date"
    RATING_YEAR = "rating_year"
    RATING_MONTH = "rating_month"
    RATING_WEEKDAY = "rating_weekday"
    RATING_HOUR = "rating_hour"
    GAP = "gap_s"
    SESSION = "session_id"
    USER_EVENTS_BEFORE = "user_events_before"
    ITEM_EVENTS_BEFORE = "movie_events_before"
    FEATURE = (
        *(USER, ITEM, USER_INDEX, ITEM_INDEX, RATING, TIME),
        *(RATING_DATE, RATING_YEAR, RATING_MONTH, RATING_WEEKDAY, RATING_HOUR),
        *(GAP, SESSION, USER_EVENTS_BEFORE, ITEM_EVENTS_BEFORE),
    )

    # Bad rows
    TABLE = "table"
    REASONS = "reasons"
    CELLS = "cells"
    BAD_ROW = (ROW, REASONS, CELLS)

    # Rows of a dataset's parts that a later part supersedes
    PART = "part"
    POSITION = "position"

    ALIASES: ClassVar[dict[str, str]] = {"userId": USER, "movieId": ITEM, "item_id": ITEM, "movie_id": ITEM}
    """Other names of columns in the files of producers."""


def column_type(name: str) -> type[np.float64] | type[np.int64]:
    """Return the type of a column of events."""
    return np.float64 if name == Columns.RATING else np.int64


def empty_table(columns: Iterable[str]) -> pd.DataFrame:
    """Return a table of events without rows."""
    return pd.DataFrame({name: pd.Series(dtype=column_type(name)) for name in columns})


def schema_of(columns: Iterable[str]) -> pa.Schema:
    """Return the schema of a Parquet file of events."""
    return pa.schema([(name, pa.from_numpy_dtype(column_type(name))) for name in columns])
