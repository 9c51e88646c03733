"""How the events of a dataset are written: the names of their columns, the types of ids, and the format of times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs.settings import DataSettings, IdTypeSettings, ValidationSettings
from models.columns import Columns
from tasks.tables import DatasetProperties

__all__ = ["SETTING_OF", "EventReading", "RowRules", "id_types_given", "reading_of"]

SETTING_OF = {
    Columns.USER: "user",
    Columns.ITEM: "item",
    Columns.RATING: "rating",
    Columns.TIME: "timestamp",
    Columns.WEIGHT: "weight",
}
"""The key of `data.columns` that names each column."""


@dataclass(frozen=True)
class EventReading:
    """How events are written. The defaults are those of MovieLens.

    Attributes:
        columns: The name of a column in the files, by its name in Columns. The others have MovieLens' names.
        text_ids: The id columns that hold text.
        timestamp_format: `data.timestamp_format`.
        timezone: `data.timezone`.
        has_rating: Each event has a rating. Otherwise the rating is 1 everywhere.
        has_weight: Each event has a weight.
        weights: The weight of each kind of event. If there are none, the column of weights has numbers.
        fixed: The types of ids are those of a stored dataset.
        refused: Texts by id column whose rows are bad, because another text has the same number (`models.identity`).
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    text_ids: frozenset[str] = frozenset()
    timestamp_format: str = "auto"
    timezone: str | None = None
    has_rating: bool = True
    has_weight: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    fixed: bool = False
    refused: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns that are read from a file, by their names in Columns."""
        rating = (Columns.RATING,) if self.has_rating else ()
        weight = (Columns.WEIGHT,) if self.has_weight else ()
        return (Columns.USER, Columns.ITEM, *rating, Columns.TIME, *weight)

    @property
    def known_names(self) -> frozenset[str]:
        """The names that a file may give to these columns."""
        return frozenset((*Columns.EVENT, *Columns.ALIASES, *self.columns.values()))

    def once_read(self) -> EventReading:
        """Return how the cells are written that `EventFile.raw` returns."""
        return replace(self, columns={}, timestamp_format="s", timezone=None, weights={})


@dataclass(frozen=True)
class RowRules:
    """The rules by which the rows of a file are read and judged.

    Attributes:
        settings: The limits.
        now: UTC seconds. No event can be later.
        reading: How events are written.
        times: The format of times, which is not `auto`: a unit, `iso` or a pattern.
    """

    settings: ValidationSettings
    now: int
    reading: EventReading = EventReading()
    times: str = "s"


def reading_of(data: DataSettings, properties: DatasetProperties, *, fixed: bool = False) -> EventReading:
    """Return how events are written by the settings, and by the properties of their dataset.

    With `fixed`, the dataset is stored already, so a file with other ids is refused.
    """
    columns = data.columns
    named = {
        Columns.USER: columns.user,
        Columns.ITEM: columns.item,
        Columns.RATING: columns.rating,
        Columns.TIME: columns.timestamp,
        Columns.WEIGHT: columns.weight,
    }
    return EventReading(
        columns={name: given for name, given in named.items() if given is not None},
        text_ids=frozenset(properties.text_columns),
        timestamp_format=data.timestamp_format,
        timezone=data.timezone,
        has_rating=data.feedback == "explicit",
        has_weight=columns.weight is not None,
        weights=dict(data.weights),
        fixed=fixed,
    )


def id_types_given(id_type: IdTypeSettings) -> dict[str, str]:
    """Return the types of ids that the settings give, by column. Those that the data decide are absent."""
    given = {Columns.USER: id_type.user, Columns.ITEM: id_type.item}
    return {name: kind for name, kind in given.items() if kind != "auto"}
