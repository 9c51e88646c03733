"""What is known of an event beside its user, item and time: rating, weight, genres, and attributes of the team's choice.

A dataset has what it has. What it does not have is not compared: such a check is absent, and the correction of the p-values does not
count it. A reference keeps what described its events when it was stored. What is described for the first time afterwards is filled
in, because the first descriptions to arrive would otherwise look like a change of taste.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from infra.storage import Store
from models.columns import Columns
from tasks.datasets import DatasetRef, read_table

__all__ = [
    "REPEATED",
    "Attribute",
    "Descriptions",
    "Traits",
    "is_attribute",
    "read_features",
    "repeated_events",
    "traits_of",
]

REPEATED = "repeated"
"""Column of a sample: 1 if the user's event before is on the same item, 0 if not, missing if it is unknown."""
NUMERICAL = (Columns.RATING, "log_gap", "popularity", "log_session", Columns.WEIGHT)
CATEGORICAL = ("genre", "hour", "weekday", REPEATED)
MARK = ": "  # in the name of an attribute's column
BESIDE = 5  # checks of the newest slice that are about no column: volume, freshness, new users, quarantine, live quality
OF_ITEMS = 2  # checks of unseen items and of concentration, which are not made over the long term


@dataclass(frozen=True)
class Attribute:
    """A column of the table of items or users that the team has chosen."""

    side: Literal["item", "user"]
    name: str
    number: bool

    @property
    def column(self) -> str:
        """Its column in a sample of events. No other column has such a name."""
        return f"{self.side}{MARK}{self.name}"


@dataclass(frozen=True, eq=False)
class Descriptions:
    """The tables that describe a dataset's items and users."""

    items: pd.DataFrame
    users: pd.DataFrame | None = None

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Attributes of items, then those of users, by name."""
        found = [*_attributes("item", self.items), *(_attributes("user", self.users) if self.users is not None else ())]
        return tuple(sorted(found, key=lambda each: (each.side, each.name)))

    def of(self, events: pd.DataFrame) -> dict[str, pd.Series[Any]]:
        """Return the genres and attributes of each event, by the names of the columns in a sample.

        An attribute that is missing is an empty text, or NaN if it is a number.
        """
        found: dict[str, pd.Series[Any]] = {}
        if Columns.GENRES in self.items:
            found[Columns.GENRES] = _cells(events[Columns.ITEM], self.items, Columns.ITEM, Columns.GENRES)
        for each in self.attributes:
            table, key = (self.items, Columns.ITEM) if each.side == "item" or self.users is None else (self.users, Columns.USER)
            found[each.column] = _cells(events[key], table, key, each.name)
        return found

    def completed(self, sample: pd.DataFrame) -> pd.DataFrame:
        """Return a reference's sample with what is described by now and was not when it was stored."""
        filled = {}
        for name, cells in self.of(sample).items():
            stored = sample.get(name)
            if stored is None or _is_number(stored) != _is_number(cells):
                filled[name] = cells
            else:
                said = stored.notna() if _is_number(stored) else stored != ""
                filled[name] = stored.where(said, cells)
        return sample.assign(**filled)


@dataclass(frozen=True)
class Traits:
    """The columns that are compared, by their names in a comparable frame."""

    numerical: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.numerical, *self.categorical)

    @property
    def categories(self) -> tuple[str, ...]:
        """Attributes that are categories. They may have any number of values."""
        return tuple(name for name in self.categorical if is_attribute(name))

    @property
    def lasting(self) -> tuple[str, ...]:
        """Columns that do not change by themselves as new items appear. Over the long term, only these are compared."""
        return tuple(name for name in self.columns if name != "popularity")

    @property
    def most_checks(self) -> int:
        """Number of checks of a slice, of what arrived, and over the long term."""
        each = len(self.columns) + OF_ITEMS
        return each + BESIDE + each + len(self.lasting)


def read_features(store: Store, dataset: DatasetRef) -> pd.DataFrame:
    """Read the features of a dataset version, without the ratings if its feedback is implicit: those are all 1."""
    properties = dataset.properties
    if properties.feedback == "explicit":
        return read_table(store, dataset, "features")
    columns = properties.with_weight(Columns.FEATURE)
    return read_table(store, dataset, "features", [name for name in columns if name != Columns.RATING])


def traits_of(sample: pd.DataFrame, described: Descriptions) -> Traits:
    """Return which columns a reference's sample and the tables of today have to compare."""
    genres = [frame[Columns.GENRES] for frame in (sample, described.items) if Columns.GENRES in frame]
    has = {
        "genre": any(bool((column.astype("string").fillna("") != "").any()) for column in genres),
        **{name: name in sample for name in (Columns.RATING, Columns.WEIGHT, REPEATED)},
    }
    fixed = [tuple(name for name in names if has.get(name, True)) for names in (NUMERICAL, CATEGORICAL)]
    numbers, words = ([each.column for each in described.attributes if each.number is kind] for kind in (True, False))
    return Traits((*fixed[0], *numbers), (*fixed[1], *words))


def is_attribute(column: str) -> bool:
    """Whether a column of a sample is an attribute of the team's choice."""
    return MARK in column


def repeated_events(users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(N,) whether each event is on the item of the user's event before; NaN for a user's first. The rows are by user and time."""
    same_user = np.append(False, users[1:] == users[:-1])[: len(users)]
    same_item = np.append(False, items[1:] == items[:-1])[: len(items)]
    return np.where(same_user, same_item.astype(np.float64), np.nan)


def _attributes(side: Literal["item", "user"], table: pd.DataFrame) -> Iterator[Attribute]:
    known = {Columns.ITEM, *Columns.ITEM_DESCRIPTION} if side == "item" else {Columns.USER, *Columns.USER_DESCRIPTION}
    for name in table.columns:
        if name not in known:
            yield Attribute(side, str(name), _is_number(table[name]))


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _cells(ids: pd.Series[int], table: pd.DataFrame, key: str, name: str) -> pd.Series[Any]:
    cells = ids.map(table.set_index(key)[name])
    if _is_number(table[name]):
        return pd.Series(cells.to_numpy(np.float64, na_value=np.nan), index=ids.index)
    return cells.astype("string").fillna("")
