"""How files that describe items and users are written: the names of their columns, and the attributes that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class TableReading:
    """How the files are written that describe items, or users. The defaults are those of MovieLens.

    Attributes:
        names: The name of a column in Columns, by its name in the files. The others have MovieLens' names.
        attributes: Further columns that are kept.
        id_is_text: The ids are text.
        refused: Texts of ids whose rows are bad, because another text has the same number.
        event_names: Columns that events have and tables lack: the time and the rating.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    id_is_text: bool = False
    refused: frozenset[str] = frozenset()
    event_names: frozenset[str] = frozenset({Columns.TIME, Columns.RATING})

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
    return {
        "items": TableReading(_by_name(of_items), items.attributes, properties.item_ids == "text", event_names=events),
        "users": TableReading(_by_name(of_users), users.attributes, properties.user_ids == "text", event_names=events),
    }


def refusing_tables(readings: Mapping[Kind, TableReading], refused: Mapping[str, frozenset[str]]) -> dict[Kind, TableReading]:
    """Return how tables are written if rows with these text ids, by column, are bad."""
    column: dict[Kind, str] = {"items": Columns.ITEM, "users": Columns.USER}
    return {kind: replace(each, refused=refused.get(column[kind], frozenset())) for kind, each in readings.items()}


def _by_name(columns: Mapping[str, str | None]) -> dict[str, str]:
    return {name: column for column, name in columns.items() if name is not None}
