"""How files that describe items and users are written: the names of their columns, and the attributes that are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from configs.settings import DataSettings
from models.columns import Columns
from tasks.tables import PLAIN, DatasetProperties

__all__ = ["ATOMIC_NAMES", "Kind", "TableReading", "refusing_tables", "table_readings"]

Kind = Literal["items", "users"]
# RecBole's ml-100k calls genres "class", and its ml-1m "genre".
ATOMIC_NAMES = {
    "class": Columns.GENRES,
    "genre": Columns.GENRES,
    "movie_title": Columns.TITLE,
    "release_year": Columns.YEAR,
}


def _names_of(column: str, given: str | None = None) -> frozenset[str]:
    """Return the names that events may give to a column."""
    aliases = (alias for alias, meant in Columns.ALIASES.items() if meant == column)
    return frozenset((column, *aliases)) if given is None else frozenset({given})


EVENT_IDS = (_names_of(Columns.USER), _names_of(Columns.ITEM))


@dataclass(frozen=True)
class TableReading:
    """How the files are written that describe items, or users. The defaults are those of MovieLens.

    Attributes:
        names: The name of a column in Columns, by its name in the files. The others have MovieLens' names.
        attributes: Further columns that are kept.
        id_is_text: The ids are text.
        refused: Texts of ids whose rows are bad, because another text has the same number.
        event_names: Columns that events have and tables lack: the time and the rating.
        timestamp_format: `data.timestamp_format`, for times of rows that are neither numbers nor in ISO 8601.
        timezone: `data.timezone`.
        event_ids: The names that events may give to the user's id, and those for the item's.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    id_is_text: bool = False
    refused: frozenset[str] = frozenset()
    event_names: frozenset[str] = frozenset({Columns.TIME, Columns.RATING})
    timestamp_format: str = "auto"
    timezone: str | None = None
    event_ids: tuple[frozenset[str], frozenset[str]] = EVENT_IDS

    def holds_events(self, given: Collection[str]) -> bool:
        """Return whether a file with these columns has users, items, and a time or a rating, by the names that events have."""
        return not self.event_names.isdisjoint(given) and all(not ids.isdisjoint(given) for ids in self.event_ids)

    def renamed(self, given: Sequence[str], *, is_atomic: bool = False) -> list[str]:
        """Return the columns of a file, in order, by their names in Columns. Attributes and others keep their names."""
        taken = set(self.names.values())
        found = []
        for name in given:
            alias = Columns.ALIASES.get(name, ATOMIC_NAMES.get(name, name) if is_atomic else name)
            if name in self.names:
                found.append(self.names[name])
            elif name in self.attributes:
                found.append(name)
            else:
                found.append(f"other {name}" if alias in taken else alias)  # the settings name another column for it
        return found

    @property
    def known_names(self) -> frozenset[str]:
        """The names of columns that matter."""
        return frozenset((*self.names, *self.attributes))


def table_readings(data: DataSettings, properties: DatasetProperties = PLAIN) -> dict[Kind, TableReading]:
    """Return how tables are written by the settings, and by the properties of the dataset."""
    items, users = data.columns_items, data.columns_users
    item, user = items.item or data.columns.item, users.user or data.columns.user
    of_items = {
        Columns.ITEM: item,
        Columns.TITLE: items.title,
        Columns.YEAR: items.year,
        Columns.GENRES: items.genres,
        Columns.UPDATED_AT: items.updated_at,
    }
    of_users = {
        Columns.USER: user,
        Columns.GENDER: users.gender,
        Columns.AGE: users.age,
        Columns.OCCUPATION: users.occupation,
        Columns.ZIP_CODE: users.zip_code,
        Columns.UPDATED_AT: users.updated_at,
    }
    events = frozenset({data.columns.timestamp or Columns.TIME, data.columns.rating or Columns.RATING})
    ids = _names_of(Columns.USER, data.columns.user), _names_of(Columns.ITEM, data.columns.item)
    common = TableReading(event_names=events, event_ids=ids, timestamp_format=data.timestamp_format, timezone=data.timezone)
    of_kinds: dict[Kind, TableReading] = {
        "items": replace(common, names=_by_name(of_items), attributes=items.attributes, id_is_text=properties.item_ids == "text"),
        "users": replace(common, names=_by_name(of_users), attributes=users.attributes, id_is_text=properties.user_ids == "text"),
    }
    return of_kinds


def refusing_tables(readings: Mapping[Kind, TableReading], refused: Mapping[str, frozenset[str]]) -> dict[Kind, TableReading]:
    """Return how tables are written if rows with these text ids, by column, are bad."""
    column: dict[Kind, str] = {"items": Columns.ITEM, "users": Columns.USER}
    return {kind: replace(each, refused=refused.get(column[kind], frozenset())) for kind, each in readings.items()}


def _by_name(columns: Mapping[str, str | None]) -> dict[str, str]:
    return {name: column for column, name in columns.items() if name is not None}
