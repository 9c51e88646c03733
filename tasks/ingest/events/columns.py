"""Find the columns of events in a file, by the settings or by MovieLens' names, and say what is lacking and how to go on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.columns import Columns
from tasks.ingest.events.reading import SETTING_OF, EventReading
from tasks.tables import suffix_of

__all__ = ["NUMERIC", "OTHER_NAMES", "FoundColumns", "find_columns", "layout_fields", "listed"]

NUMERIC = " +-.0123456789"  # of such characters, a first line has no names
# Parts of names that others give to the columns of events. They serve to suggest a setting, and to tell what a file describes by its name.
OTHER_NAMES = {
    Columns.USER: ("user", "customer", "client", "member", "visitor", "listener", "reader", "account", "person", "cookie", "uid"),
    Columns.ITEM: ("item", "movie", "film", "product", "article", "sku", "track", "song", "video", "book", "asin", "iid"),
    Columns.RATING: ("rating", "stars", "score", "grade"),
    Columns.TIME: ("timestamp", "time", "date", "_at", "when", "ts"),
    Columns.WEIGHT: ("weight", "kind", "event", "action"),
}


@dataclass(frozen=True)
class FoundColumns:
    """The columns of events in a file.

    Attributes:
        names: The name in the file of each column that was found, by its name in Columns.
        faults: What is wrong with the columns, in sentences.
    """

    names: dict[str, str]
    faults: tuple[str, ...] = ()
    suggested: dict[str, str] = field(default_factory=dict)
    """Names in the file that may be those of lacking columns."""


def listed(given: Sequence[str]) -> str:
    """Return the names of columns for a message."""
    names = ", ".join(field[:60] for field in given[:20])
    return f"{names} and {len(given) - 20} more" if len(given) > 20 else names


def find_columns(path: Path, given: Sequence[str], reading: EventReading) -> FoundColumns:
    """Find the columns of events among those of a file."""
    names: dict[str, str] = {}
    faults: list[str] = []
    lacking: list[str] = []
    free = [name for name in given if name not in reading.columns.values()]
    for column in reading.read_columns:
        named = reading.columns.get(column)
        alike = [name for name in given if name == named] if named else [n for n in free if Columns.ALIASES.get(n, n) == column]
        if len(alike) > 1:
            remedy = "Remove one." if named or len(set(alike)) == 1 else f"Name one of them in data.columns.{SETTING_OF[column]}."
            faults.append(f"{path} has two columns for {column}; its columns are {listed(given)}. {remedy}")
        if alike:
            names[column] = alike[0]
        elif named:
            faults.append(_absent(path, column, named, given))
        else:
            lacking.append(column)
    suggested = _suggested(lacking, [name for name in free if name not in names.values()])
    if lacking:
        faults.insert(0, _lacking(path, lacking, given, suggested, reading))
    return FoundColumns(names, tuple(faults), suggested)


def layout_fields(given: Sequence[str], names: dict[str, str]) -> tuple[str, ...]:
    """Return all columns of a file, in order. Those that are read have their names in Columns, and no others do."""
    found, read = [], {name: column for column, name in names.items()}
    for name in given:
        if name in read:
            found.append(read.pop(name))
        else:
            found.append(f"other {name}" if name in SETTING_OF else name)
    return tuple(found)


def _absent(path: Path, column: str, named: str, given: Sequence[str]) -> str:
    """Return the fault of a column that the settings name, but the file lacks."""
    said = f"data.columns.{SETTING_OF[column]} is {named}, but {path} has no such column; its columns are {listed(given)}."
    near = next((name for name in given if name.lower() == named.lower()), None)
    near = near or next(iter(difflib.get_close_matches(named, list(given), n=1)), None)
    return f"{said} Set it to {near[:60]}." if near else f"{said} Correct the setting."


def _suggested(lacking: Sequence[str], free: list[str]) -> dict[str, str]:
    """Return which free column may be which lacking one, by its name."""
    found: dict[str, str] = {}
    for column in lacking:
        known = {name.lower() for name in (column, *(each for each, of in Columns.ALIASES.items() if of == column))}
        alike = next((name for name in free if name.lower() in known), None)
        alike = alike or next((name for part in OTHER_NAMES[column] for name in free if part in name.lower()), None)
        if alike is not None:
            free = [name for name in free if name != alike]
            found[column] = alike
    return found


def _lacking(path: Path, lacking: Sequence[str], given: Sequence[str], suggested: dict[str, str], reading: EventReading) -> str:
    """Return what to do about columns that a file lacks: which setting names them, or what to add."""
    in_format = {Columns.USER: "userId", Columns.ITEM: "movieId"} if suffix_of(path) == ".csv" else {}
    names = ", ".join(in_format.get(name, name) for name in lacking)
    said = f"{path} lacks the column{'s' if len(lacking) > 1 else ''} {names}; its columns are {listed(given)}."
    if not any(name.strip(NUMERIC) for name in given):
        header = ",".join(in_format.get(name, name) for name in reading.read_columns)
        return f"{said} Its first line is not a header: add {header}."
    settings = [f"data.columns.{SETTING_OF[column]} to {name[:60]}" for column, name in suggested.items()]
    rest = [column for column in lacking if column not in suggested]
    if Columns.RATING in rest:
        settings.append("data.feedback to implicit if events have no rating")
        rest.remove(Columns.RATING)
    remedies = [f"Set {_joined(settings)}."] if settings else []
    if rest:
        remedies.append(f"Name the column of {_joined(rest)} in data.columns, or provide another file.")
    return " ".join([said, *remedies])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
