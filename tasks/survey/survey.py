"""Survey a file, a folder or a zip: its tables, what they hold, and figures of the events."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import SourceError
from tasks.survey.columns import SurveyedColumn, column_of, texts_in
from tasks.survey.roles import Roles, TableKind, roles_of, table_kind
from tasks.survey.tables import SurveyedTable, tables_at, tables_beside
from tasks.tables import DAMAGE

__all__ = ["EventFigures", "Survey", "Surveyed", "survey_of"]

OFTEN = 0.1  # share of repeated events from which repeats are kept


@dataclass(frozen=True, eq=False)
class Surveyed:
    """A table, its columns, and what they would be mapped to."""

    table: SurveyedTable
    kind: TableKind
    columns: tuple[SurveyedColumn, ...]
    roles: Roles

    @property
    def what(self) -> str:
        """What the table holds, in words."""
        words = {"events": "events", "items": "describes items", "users": "describes users", "other": "not used"}
        return f"{words[self.kind]}, {len(self.table.cells):,} rows{'' if self.table.is_whole else ' looked at'}"

    def column(self, role: str) -> SurveyedColumn | None:
        """Return the column of a role, or None if there is none."""
        name = self.roles.columns.get(role)
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, eq=False)
class EventFigures:
    """Figures of the events, for columns that are mapped. Rows without a user, item or time do not count."""

    rows: int
    users: int
    items: int
    repeated: int  # rows whose user and item had an event before
    identical: int  # of these: rows with the same time too
    first: int | None  # UTC seconds
    last: int | None
    events_of_users: np.ndarray  # (users,) without repeats
    life_of_items: float  # median time between the first and the last event of an item, as a share of the whole span
    codes: tuple[np.ndarray, np.ndarray]  # (n,) numbers of the users and items, without repeats

    @property
    def keeps_repeats(self) -> bool:
        """Whether so many events repeat that each of them should count."""
        return self.repeated >= OFTEN * self.rows > 0

    @property
    def counted(self) -> int:
        """The events that count. If several have the same time, one does."""
        return self.rows - (self.identical if self.keeps_repeats else self.repeated)


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found."""

    path: Path
    tables: tuple[Surveyed, ...]
    figures: EventFigures | None
    beside: dict[str, TableKind] = field(default_factory=dict)
    """Tables in the folder of a surveyed file, by name."""

    def of(self, kind: TableKind) -> tuple[Surveyed, ...]:
        return tuple(table for table in self.tables if table.kind == kind)

    @property
    def events(self) -> Surveyed:
        return self.of("events")[0]

    @property
    def is_whole(self) -> bool:
        return all(table.table.is_whole for table in self.tables)


def survey_of(path: Path) -> Survey:
    """Look at the tables of a file, a folder or a zip.

    Raises:
        SourceError: It is missing or damaged, there is no table of events, or several have different columns.
    """
    with tables_at(path) as found:
        tables = _surveyed(found)
        events = [table for table in tables if table.kind == "events"]
        if not events:
            listed = "; ".join(
                f"{table.table.name}: {', '.join(column.name for column in table.columns)}" for table in tables[:5]
            )
            raise SourceError(
                f"{path} has no table of events: a column of users, one of items and one of times. Found {listed}. Give the file of events."
            )
        first = [column.name for column in events[0].columns]
        for other in events[1:]:
            if [column.name for column in other.columns] != first:
                raise SourceError(
                    f"{events[0].table.name} and {other.table.name} of {path} both hold events, but their columns differ. Survey one of them, "
                    "and move the other one to a folder of its own."
                )
        return Survey(path, tuple(tables), _figures(events), _beside(path, events[0]))


def _surveyed(found: list[SurveyedTable]) -> list[Surveyed]:
    looked = [(table, tuple(column_of(name, table.cells[name]) for name in table.cells.column_names)) for table in found]
    events = next((columns for _, columns in looked if table_kind(columns) == "events"), None)
    named = roles_of(events, "events").columns if events is not None else {}
    tables = []
    for table, columns in looked:
        kind = table_kind(columns)
        if kind != "events":
            kind = table_kind(columns, named.get("item"), named.get("user"))
        tables.append(Surveyed(table, kind, columns, roles_of(columns, kind)))
    return tables


def _figures(events: list[Surveyed]) -> EventFigures | None:
    """Return the figures of the events, or None if the columns of users or items are open."""
    frames = []
    for table in events:
        user, item, time = (table.column(role) for role in ("user", "item", "timestamp"))
        if user is None or item is None:
            return None
        cells = {role: texts_in(table.table.cells[column.name]) for role, column in (("user", user), ("item", item))}
        frame = pd.DataFrame({role: values.to_pandas() for role, values in cells.items()})
        known = time is not None and time.seconds is not None and time.formats
        frame["time"] = time.seconds(time.formats[0]) if known else 0.0  # type: ignore[union-attr, misc]
        frames.append(frame.dropna())
    both = pd.concat(frames, ignore_index=True)
    users, items = pd.factorize(both["user"])[0], pd.factorize(both["item"])[0]
    times = np.floor(both["time"].to_numpy(np.float64))
    pairs = pd.DataFrame({"user": users, "item": items, "time": times})
    first_of_pair = ~pairs.duplicated(["user", "item"]).to_numpy()
    timed = any(table.column("timestamp") is not None for table in events) and len(times) > 0
    span = float(times.max() - times.min()) if timed else 0.0
    by_item = pairs.groupby("item")["time"]
    lives = (by_item.max() - by_item.min()).to_numpy(np.float64) if span else np.zeros(1)
    return EventFigures(
        rows=len(both),
        users=int(users.max(initial=-1)) + 1,
        items=int(items.max(initial=-1)) + 1,
        repeated=int((~first_of_pair).sum()),
        identical=int(pairs.duplicated().sum()),
        first=int(times.min()) if timed else None,
        last=int(times.max()) if timed else None,
        events_of_users=np.bincount(users[first_of_pair]) if len(users) else np.zeros(0, np.int64),
        life_of_items=float(np.median(lives)) / span if span else 0.0,
        codes=(users[first_of_pair].astype(np.int64), items[first_of_pair].astype(np.int64)),
    )


def _beside(path: Path, events: Surveyed) -> dict[str, TableKind]:
    """Return the tables of items and users in the folder of a surveyed file."""
    if path.is_dir() or not path.parent.is_dir() or len(events.table.cells) == 0:
        return {}
    found: dict[str, TableKind] = {}
    item, user = events.roles.columns.get("item"), events.roles.columns.get("user")
    for table in tables_beside(path):
        try:
            columns = [column_of(name, table.cells[name]) for name in table.cells.column_names]
        except (*DAMAGE, OverflowError):  # what is not asked for stops nothing
            continue
        if (kind := table_kind(columns, item, user)) in ("items", "users"):
            found[table.name] = kind
    return found
