"""The state of a dataset between two runs over its landing zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.columns import Columns
from tasks.datasets.content_digest import EventDigest
from tasks.datasets.layout import IdMap, Layout, StoredFile
from tasks.ingest import TABLES, Kind, seeded
from tasks.tables import PLAIN, DatasetProperties

__all__ = ["LandedState"]

Ids = npt.NDArray[np.int64]
NOTHING = StoredFile("", "", 0)


@dataclass(frozen=True, eq=False)
class LandedState:
    """A dataset as a run finds or leaves it: its layout, and its tables with the columns that adding later files needs."""

    NEVER: ClassVar[int] = np.iinfo(np.int64).max

    layout: Layout
    items: pd.DataFrame  # with HAS_EVENTS, and the time and origin of each cell
    users: pd.DataFrame
    first: int  # UTC seconds; NEVER if there are no events
    last: int
    parents: tuple[str, ...]  # name/version
    horizon: int = 0  # UTC seconds that the events reach (`configs.clock`)
    is_release: bool = False  # the stored tables of a release lack the columns that adding later files needs
    properties: DatasetProperties = PLAIN

    @classmethod
    def empty(cls, properties: DatasetProperties = PLAIN) -> LandedState:
        """Return the state of a dataset without events."""
        ids = {column: IdMap() for column in properties.text_columns}
        layout, none = Layout((), NOTHING, NOTHING, 0, EventDigest(), ids=ids), np.empty(0, dtype=np.int64)
        items, users = seeded("items", None, none), seeded("users", None, none)
        return cls(layout, items, users, cls.NEVER, 0, (), properties=properties)

    @property
    def is_empty(self) -> bool:
        return not self.layout.parts

    def table(self, kind: Kind) -> pd.DataFrame:
        return self.items if kind == "items" else self.users

    def stored(self, kind: Kind) -> StoredFile:
        """Return the stored object of a table."""
        return self.layout.items if kind == "items" else self.layout.users

    def has_events(self, kind: Kind) -> Ids:
        """Return the ids of the items (users) that have events."""
        table = self.table(kind)
        ids: Ids = table.loc[table[Columns.HAS_EVENTS], TABLES[kind].id].to_numpy(np.int64)
        return ids
