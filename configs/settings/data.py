"""Where the events come from, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints, field_validator, model_validator

from configs.addresses import PublicAddress
from configs.base import Settings

__all__ = [
    "DEFAULT_NOUNS",
    "ColumnSettings",
    "DataSettings",
    "IdTypeSettings",
    "ItemColumnSettings",
    "NounSettings",
    "SourceName",
    "UserColumnSettings",
]

SourceName = Literal["ml-100k", "ml-1m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest"]
IdType = Literal["auto", "integer", "text"]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Noun = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]
Weight = Annotated[float, Field(ge=0)]
RESERVED = frozenset({"user_id", "item_id", "rating", "timestamp", "external_id", "rated", "described_at", "described_in"})
"""Names in tables of items and users that no attribute can have."""
FORMER = frozenset({"movie_id", "movie_idx", "movie_events_before"})
"""Names that earlier versions gave to stored columns. They are read under their present names."""
STATE = {"at": "the time", "from": "the file"}
"""Ends of the names under which a table stores the time and the file of each of its cells."""
ID_NAMES = {"item": ("item_id", "movieId", "movie_id"), "user": ("user_id", "userId")}
"""Names of the ids in files, if the settings give none."""
TIME_UNITS = ("s", "ms", "us", "ns")
TIME_FORMATS = ("auto", *TIME_UNITS, "iso")


class _NamedColumns(Settings):
    """Names of columns, each of a column of its own."""

    stored: ClassVar[tuple[str, ...]] = ()
    """Columns that every stored table of this kind has."""

    @property
    def named(self) -> dict[str, str]:
        """The names that are set, by what the columns hold."""
        found = {role: getattr(self, role) for role in type(self).model_fields if role != "attributes"}
        return {role: name for role, name in found.items() if name is not None}

    @classmethod
    def no_attribute(cls, name: str, others: Collection[str] = ()) -> str | None:
        """Return why no attribute can have this name beside the others, and what to do, or None if it can have it."""
        if name in RESERVED or name in cls.model_fields:
            return f"{name}, which is read anyway or has a meaning of its own: remove it, or rename the column"
        if name in FORMER:
            return f"{name}, under which a stored table may have a column of the product: rename the column, for example to own_{name}"
        stem, _, end = name.rpartition("_")
        while end in STATE:
            if stem in others:
                return f"{name} beside {stem}: rename one of the two columns"
            if stem in cls.stored:
                return (
                    f"{name}, under which {STATE[end]} of each {stem} is stored: rename the column, for example to own_{name}; other "
                    "names than those of a column with _at or _from are free"
                )
            stem, _, end = stem.rpartition("_")
        return None

    @model_validator(mode="after")
    def _each_column_has_one_meaning(self) -> _NamedColumns:
        attributes: tuple[str, ...] = getattr(self, "attributes", ())
        for name in attributes:
            if why := self.no_attribute(name, attributes):
                raise ValueError(f"attributes names {why}")
        given = [*self.named.items(), *(("attributes", name) for name in attributes)]
        roles: dict[str, str] = {}
        for role, name in given:
            if name in roles:
                both = f"{role} names twice" if roles[name] == role else f"{roles[name]} and {role} both name"
                raise ValueError(f"{both} the column {name}: give each of them a column of its own")
            roles[name] = role
        return self


class ColumnSettings(_NamedColumns):
    """The columns of your event files. Those that are left empty have MovieLens' names, such as userId or user_id."""

    user: ColumnName | None = None
    """Column of the user's id."""
    item: ColumnName | None = None
    """Column of the item's id."""
    timestamp: ColumnName | None = None
    """Column of the event's time."""
    rating: ColumnName | None = None
    """Column of the rating. With `feedback: implicit` there is none."""
    weight: ColumnName | None = None
    """Column that says how much an event counts: a number, or a kind of event that `weights` names. If empty, all count alike."""


class ItemColumnSettings(_NamedColumns):
    """The columns of files that describe items. Those that are left empty have MovieLens' names, such as title and genres."""

    stored = ("item_id", "title", "year", "genres", "rated")

    item: ColumnName | None = None
    """Column of the item's id. If empty, the name is that in the event files."""
    title: ColumnName | None = None
    """Column of the title, which pages show beside the id."""
    year: ColumnName | None = None
    """Column of the year, from 1870 to 2100."""
    genres: ColumnName | None = None
    """Column of the categories, separated by |."""
    updated_at: ColumnName | None = None
    """Column of the time of a row: numbers since 1970 or ISO 8601, or as `timestamp_format` says if that is a pattern. If empty, and
    there is no column updated_at, the time of the file counts."""
    attributes: tuple[ColumnName, ...] = ()
    """Further columns to keep, such as brand and price. Numbers and texts are told apart by their values."""


class UserColumnSettings(_NamedColumns):
    """The columns of files that describe users. Those that are left empty have MovieLens' names, such as gender and age."""

    stored = ("user_id", "gender", "age", "occupation", "zip_code", "rated")

    user: ColumnName | None = None
    """Column of the user's id. If empty, the name is that in the event files."""
    gender: ColumnName | None = None
    """Column of the gender."""
    age: ColumnName | None = None
    """Column of the age in years, from 0 to 150."""
    occupation: ColumnName | None = None
    """Column of the occupation."""
    zip_code: ColumnName | None = None
    """Column of the postal code."""
    updated_at: ColumnName | None = None
    """Column of the time of a row: numbers since 1970 or ISO 8601, or as `timestamp_format` says if that is a pattern. If empty, and
    there is no column updated_at, the time of the file counts."""
    attributes: tuple[ColumnName, ...] = ()
    """Further columns to keep, such as country. Numbers and texts are told apart by their values."""


class IdTypeSettings(Settings):
    """The types of ids. They are fixed by the first version of a dataset."""

    user: IdType = "auto"
    """`integer` takes whole numbers from 0 to 2^63 - 1. `text` takes any text of up to 500 bytes, also 007 and numbers of any length.
    `auto` takes text if at least half of the ids in the first rows are not numbers, or begin with a zero."""
    item: IdType = "auto"
    """The same for items."""


class NounSettings(Settings):
    """What pages and messages call users, items and events."""

    user: Noun = "user"
    """One user."""
    users: Noun = "users"
    """Several users."""
    item: Noun = "film"
    """One item."""
    items: Noun = "films"
    """Several items."""
    event: Noun = "rating"
    """One event."""
    events: Noun = "ratings"
    """Several events."""
    action: Noun = "watch"
    """What a click on a recommendation may lead to, such as a purchase (see `business_value`)."""
    actions: Noun = "watches"
    """Several of them."""
    genre: Noun = "genre"
    """One of the categories that `columns_items.genres` names."""
    genres: Noun = "genres"
    """Several of them."""


DEFAULT_NOUNS = NounSettings()


class DataSettings(Settings):
    """Source of the events, and how they are written."""

    source: SourceName = "ml-100k"
    """MovieLens release. ml-100k needs no download: it is read from the files that recbole ships."""
    dataset: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """Name of the dataset that versions are stored under. If empty, the name of the source is used."""
    local_path: Path | None = None
    """A zip, a folder, or a file of events to read instead of downloading. All event files of a folder are read together, by the
    same rules as those of a landing zone. If empty, the release is downloaded."""
    landing: str | None = None
    """Landing zone: a folder or s3://<bucket>/<prefix> for new files of events, items and users. If set, each file is added once
    to the existing dataset, if there is one (see `landing`). If empty, the dataset is built from the source."""
    columns: ColumnSettings = ColumnSettings()
    columns_items: ItemColumnSettings = ItemColumnSettings()
    columns_users: UserColumnSettings = UserColumnSettings()
    id_type: IdTypeSettings = IdTypeSettings()
    timestamp_format: str = Field(default="auto", min_length=1, max_length=100)
    """How times are written: numbers since 1970 in `s`, `ms`, `us` or `ns`, `iso` for ISO 8601, or a pattern such as
    `%d/%m/%Y %H:%M` (as in Python's strptime). `auto` finds numbers and ISO 8601 by the first rows of each file, and refuses what has two
    readings. Parquet timestamps need no format. Events keep whole seconds; fractions are cut off."""
    timezone: str | None = Field(default=None, max_length=100)
    """Time zone of times that are written without one, such as UTC or Europe/Berlin. If empty, texts without a zone are refused, and
    Parquet timestamps without a zone are in UTC. An hour that occurs twice counts as the first one."""
    feedback: Literal["explicit", "implicit"] = "explicit"
    """`explicit`: each event has a rating. `implicit`: events have none, such as views and purchases."""
    repeats: Literal["newest", "keep"] = "newest"
    """`newest`: one event counts for each user and item, the newest. `keep`: every event counts, as in a shop or a music service."""
    weights: dict[ColumnName, Weight] = Field(default={})
    """Weight of each kind of event, if `columns.weight` names a column of kinds, for example {view: 0.1, purchase: 1}. A weight of 0
    leaves a kind out. If empty, that column has numbers."""
    nouns: NounSettings = DEFAULT_NOUNS
    mirror_url: PublicAddress = "https://files.grouplens.org/datasets/movielens"
    """Base URL of `<source>.zip`."""
    checksum: str | None = None
    """Expected digest of the zip, as `md5:<hex>` or `sha256:<hex>`. If empty, the published digest is used if it is known."""
    cache_dir: Path = Path(".recsys/downloads")
    """Folder for downloads. An interrupted download resumes from it, and a second run does not download again."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds without a byte received after which a download is retried."""
    retries: int = Field(default=4, ge=0)
    """Number of times that an interrupted download is resumed before the run fails."""

    @property
    def dataset_name(self) -> str:
        """Name of the dataset: `dataset`, or the source if it is empty."""
        return self.dataset or self.source

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        try:
            if name is not None:
                ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("there is no such time zone: give a name such as UTC, Europe/Berlin or America/New_York") from error
        return name

    @field_validator("timestamp_format")
    @classmethod
    def _is_a_format(cls, given: str) -> str:
        if given in TIME_FORMATS:
            return given
        if "%" not in given:
            raise ValueError(f"give one of {', '.join(TIME_FORMATS)}, or a pattern such as %d/%m/%Y %H:%M")
        if "Z" in re.findall("%(.)", given):
            raise ValueError(
                "%Z is read, but not heeded: write the zone itself in its place, such as UTC, and set timezone to it, or use %z if the "
                "times have an offset"
            )
        days = [datetime(2023, 4, 25, 13, 30, 59, tzinfo=UTC), datetime(2024, 11, 3, 1, 2, 3, tzinfo=UTC)]
        try:
            read = [datetime.strptime(day.strftime(given), given).date() for day in days]
        except ValueError as error:
            raise ValueError(f"this is not a pattern of strptime ({error}): an example is %d/%m/%Y %H:%M") from error
        if read != [day.date() for day in days]:
            raise ValueError("this pattern does not say the year, the month and the day: an example is %d/%m/%Y %H:%M")
        return given

    @model_validator(mode="after")
    def _ids_are_nothing_else(self) -> DataSettings:
        """A file of items has the id under the name that events have, unless `columns_items.item` gives another one."""
        for role, section, columns in (
            ("item", "columns_items", self.columns_items),
            ("user", "columns_users", self.columns_users),
        ):
            given = columns.named.get(role) or self.columns.named.get(role)
            names = ID_NAMES[role] if given is None else (given,)
            others = [*columns.named.items(), *(("attributes", name) for name in columns.attributes)]
            for other, name in others:
                if other != role and name in names:
                    raise ValueError(
                        f"{section}.{other} names the column {name}, which has the id of each {role}: remove it, or set "
                        f"{section}.{role} to the column that has the ids in these files"
                    )
        return self

    @model_validator(mode="after")
    def _the_settings_fit_together(self) -> DataSettings:
        if self.feedback == "implicit" and self.columns.rating is not None:
            raise ValueError(
                f"feedback is implicit, which takes no rating, but columns.rating names {self.columns.rating}: remove it, name it as "
                "columns.weight if it says how much an event counts, or set feedback to explicit"
            )
        if self.weights and self.columns.weight is None:
            raise ValueError(
                "weights names kinds of events, but columns.weight names no column: name the one that holds the kinds"
            )
        if self.weights and not any(self.weights.values()):
            raise ValueError("every weight is 0, so no event would count: give a kind of event a weight above 0")
        pattern = self.timestamp_format
        if "%" in pattern and self.timezone is None and "z" not in re.findall("%(.)", pattern):
            raise ValueError(f"timestamp_format ({pattern}) has no zone: set timezone, for example to UTC, or add %z")
        return self
