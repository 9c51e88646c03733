"""Say what a file lacks whose columns are not those of events, and how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.events.row_checks import Checks, judge_events, remedy
from tasks.tables import suffix_of

__all__ = ["EVENT_NAMES", "NUMERIC", "faults_of_columns", "lacking_columns", "listed"]

EVENT_NAMES = frozenset((*Columns.EVENT, *Columns.ALIASES))
NUMERIC = " +-.0123456789"  # of such characters, a first line has no names
# Parts of names that others give to the columns of events. They only serve to suggest what to rename.
OTHER_NAMES = {
    Columns.USER: ("user", "customer", "client", "member", "visitor", "account", "person", "subscriber", "uid"),
    Columns.ITEM: ("item", "movie", "film", "product", "article", "sku", "track", "song", "video", "book", "asin", "iid"),
    Columns.RATING: ("rating", "stars", "score", "grade"),
    Columns.TIME: ("timestamp", "time", "date", "_at", "when", "ts"),
}


def listed(given: Sequence[str]) -> str:
    """Return the names of columns for a message."""
    names = ", ".join(field[:60] for field in given[:20])
    return f"{names} and {len(given) - 20} more" if len(given) > 20 else names


def lacking_columns(path: Path, given: Sequence[str]) -> str:
    """Return the message about a file that lacks columns of events: which ones, and what to rename or to add."""
    in_format = {Columns.USER: "userId", Columns.ITEM: "movieId"} if suffix_of(path) == ".csv" else {}
    present = {Columns.ALIASES.get(field, field) for field in given}
    lacking = [name for name in Columns.EVENT if name not in present]
    names = ", ".join(in_format.get(name, name) for name in lacking)
    said = f"{path} lacks the column{'s' if len(lacking) > 1 else ''} {names}; its columns are {listed(given)}."
    if not any(field.strip(NUMERIC) for field in given):
        return f"{said} Its first line is not a header: add {','.join(in_format.get(name, name) for name in Columns.EVENT)}."
    free = [field for field in given if Columns.ALIASES.get(field, field) not in Columns.EVENT]
    renamed: list[str] = []
    for name in lacking:
        alike = next((field for part in OTHER_NAMES[name] for field in free if part in field.lower()), None)
        if alike is not None:
            free.remove(alike)
            renamed.append(f"{alike[:60]} to {in_format.get(name, name)}")
        elif name == Columns.RATING:
            said += " Events without a rating, such as views, need a column rating with one constant, for example 5."
    if renamed:
        return f"{said} Rename {', '.join(renamed)}."
    return said if lacking == [Columns.RATING] else f"{said} Rename them or provide another file."


def faults_of_columns(rows: list[list[str]], names: Sequence[str], settings: ValidationSettings, now: int) -> str:
    """Return the faults of rows that lack columns of events, in the columns that are there, as sentences.

    Args:
        rows: The cells of the first rows, as many as there are names.
        names: The columns.
        settings: The limits of the validation.
        now: UTC seconds.
    """
    present = {name: names.index(name) for name in Columns.EVENT if name in names}
    if not rows or not present:
        return ""
    good = {Columns.USER: "1", Columns.ITEM: "1", Columns.RATING: f"{settings.max_rating}", Columns.TIME: f"{now}"}
    cells = {
        name: [row[present[name]].strip(" \t") or None for row in rows] if name in present else [good[name]] * len(rows)
        for name in Columns.EVENT
    }
    checks = Checks("interactions", pd.DataFrame(cells, dtype=object))
    judge_events(checks, settings, now)
    found = [
        f"{reason}: {int(mask.sum())} of the first {len(rows)} rows, first data row {int(np.argmax(mask)) + 1}; {remedy(reason)}."
        for reason, mask in checks.reasons.items()
        if reason.startswith(tuple(f"{name} " for name in present))
    ]
    return f"Also: {' '.join(found)}" if found else ""
