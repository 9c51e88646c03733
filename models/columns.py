"""The names and types of the columns of events and of their tables. No other module spells them."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

__all__ = ["Columns"]


class Columns:
    """Names of columns. The tuples are the columns of a table, in order."""

    # Events
    USER = "user_id"
    ITEM = "item_id"
    RATING = "rating"
    TIME = "timestamp"  # UTC seconds
    WEIGHT = "weight"  # how much an event counts, above 0; only in datasets with weights
    ROW = "row"  # position in the source
    FILE = "file"  # ordinal of the file that the event comes from
    ORIGIN = "origin"  # the landed file of an event (`tasks.datasets.commit_log.origin_of`); 0 if there is none
    EVENT = (USER, ITEM, RATING, TIME)
    HAPPENED = (USER, ITEM, TIME)
    INTERACTION = (*EVENT, ROW)
    FILE_EVENT = (*INTERACTION, FILE)

    # Ids that are text
    EXTERNAL_ID = "external_id"  # the text whose number (`models.identity`) is the id

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
    UPDATED_AT = "updated_at"  # the time of a row in a file of descriptions
    HAS_EVENTS = "rated"
    DESCRIBED_AT = "described_at"  # UTC nanoseconds of a complete row, in tables that earlier versions stored
    DESCRIBED_IN = "described_in"  # the file of a complete row, in such tables

    # Features of an event
    USER_INDEX = "user_idx"
    ITEM_INDEX = "item_idx"
    RATING_DATE = "rating_date"
    RATING_YEAR = "rating_year"
    RATING_MONTH = "rating_month"
    RATING_WEEKDAY = "rating_weekday"
    RATING_HOUR = "rating_hour"
    GAP = "gap_s"
    SESSION = "session_id"
    USER_EVENTS_BEFORE = "user_events_before"
    ITEM_EVENTS_BEFORE = "item_events_before"
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

    ALIASES: ClassVar[dict[str, str]] = {"userId": USER, "movieId": ITEM, "movie_id": ITEM}
    """Other names of columns in the files of producers."""

    FORMER_ITEM = "movie_id"
    FORMER: ClassVar[dict[str, str]] = {FORMER_ITEM: ITEM, "movie_idx": ITEM_INDEX, "movie_events_before": ITEM_EVENTS_BEFORE}
    """Names of columns in tables that earlier versions of the product stored. They are read under their present names."""

    @staticmethod
    def time_of(name: str) -> str:
        """Return the column with the time of a description, in UTC seconds."""
        return f"{name}_at"

    @staticmethod
    def origin_of(name: str) -> str:
        """Return the column with the file that a description comes from, as in ORIGIN."""
        return f"{name}_from"

    @classmethod
    def stored_as(cls, name: str, stored: Collection[str]) -> str:
        """Return the name of a column in a stored table, given the names in that table."""
        if name in stored:
            return name
        return next((former for former, present in cls.FORMER.items() if present == name and former in stored), name)

    @classmethod
    def present(cls, stored: Collection[str], of: Collection[str] | None = None) -> list[str]:
        """Return the present names of columns in a stored table, in order.

        A former name beside its present one is an attribute of the team's choice, and stays.

        Args:
            stored: The names of the columns.
            of: The names of all columns in the table, if `stored` has only some.
        """
        names = stored if of is None else of
        return [cls.FORMER[name] if name in cls.FORMER and cls.FORMER[name] not in names else name for name in stored]

    @classmethod
    def digested_as(cls, name: str) -> str:
        """Return the name of a column in digests of content. It never changes, so the same content keeps its digest."""
        return next((former for former, present in cls.FORMER.items() if present == name), name)
