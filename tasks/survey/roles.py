"""What the columns of a table would be mapped to, by their names and values. What is not clear is left open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from configs.settings import ItemColumnSettings, UserColumnSettings
from models.columns import Columns
from tasks.survey.columns import SurveyedColumn

__all__ = ["LONGEST_NAME", "MOST_KINDS", "OWN", "Roles", "TableKind", "roles_of", "table_kind"]

TableKind = Literal["events", "items", "users", "other"]
WORDS: dict[str, tuple[str, ...]] = {
    "user": (
        "user", "customer", "client", "member", "visitor", "listener", "reader", "account", "person", "cookie", "buyer", "subscriber",
        "uid", "profile", "patient", "player", "viewer", "shopper", "session",
    ),
    "item": (
        "item", "film", "product", "article", "sku", "track", "song", "video", "book", "asin", "iid", "page", "content",
        "story", "listing", "offer", "recipe", "game", "app", "isbn", "show", "episode", "course", "post", "hotel", "restaurant",
    ),
    "timestamp": (
        "timestamp", "time", "date", "datetime", "at", "when", "ts", "occurred", "created", "played", "clicked", "ordered", "day",
    ),
    "rating": ("rating", "stars", "score", "grade", "rate"),
    "weight": ("weight", "kind", "event", "action", "type", "behavior", "behaviour", "activity", "count", "quantity", "plays"),
    "title": ("title", "name", "headline", "label"),
    "genres": ("genres", "genre", "category", "categories", "section", "department", "topic", "topics"),
    "year": ("year", "released"),
    "updated_at": ("updated",),
    "gender": ("gender", "sex"),
    "age": ("age",),
    "occupation": ("occupation", "job", "profession"),
}  # fmt: skip
"""Words in the names of columns, by what such a column may be."""
OWN = {"user": Columns.USER, "item": Columns.ITEM, "timestamp": Columns.TIME, "rating": Columns.RATING}
"""The columns that are read without a mapping, also by their aliases."""
KNOWN = {name: role for role, name in OWN.items()} | {
    alias.lower(): role for role, name in OWN.items() for alias, meant in Columns.ALIASES.items() if meant == name
}
"""The role of each of these names, in lower case."""
ID_WORDS = {"id", "key", "code"}
LONGEST_NAME = 200
"""Characters that the name of a column, or of a kind of event, may have in the settings."""
MOST_KINDS = 20
MOST_CATEGORIES = 200


@dataclass(frozen=True)
class Roles:
    """The columns by what they would be mapped to, and what is open."""

    columns: dict[str, str] = field(default_factory=dict)  # role -> name of the column
    open: dict[str, tuple[str, ...]] = field(default_factory=dict)  # role -> columns that it may be
    attributes: tuple[str, ...] = ()


def table_kind(columns: Sequence[SurveyedColumn], item: str | None = None, user: str | None = None) -> TableKind:
    """Return what a table holds.

    Args:
        columns: Its columns.
        item: The name of the item's column in the event files, if it is known.
        user: The name of the user's column.
    """
    names = {column.name for column in columns}
    timed = any(column.formats for column in columns)
    users, items = _like(columns, "user"), _like(columns, "item")
    if users and items and timed:
        return "events"
    if (item in names or items) and _is_key(columns, item or items[0].name):
        return "items"
    if (user in names or users) and _is_key(columns, user or users[0].name):
        return "users"
    return "events" if timed and item is None and len(columns) >= 3 else "other"


def roles_of(columns: Sequence[SurveyedColumn], kind: TableKind) -> Roles:
    """Return what the columns of a table would be mapped to. A column without a name, such as an index, cannot be named."""
    columns = [column for column in columns if column.name]
    if kind == "events":
        return _of_events(columns)
    wanted = {
        "items": ("item", "title", "year", "genres", "updated_at"),
        "users": ("user", "gender", "age", "occupation", "updated_at"),
    }
    found: dict[str, str] = {}
    if kind not in wanted:
        return Roles()
    for role in wanted[kind]:
        alike = [column for column in _like(columns, role) if column.name not in found.values() and _can_be(column, role)]
        if alike:
            found[role] = alike[0].name
    rest = [column for column in columns if column.name not in found.values()]
    return Roles(found, {}, _attributes(rest, kind))


def _attributes(columns: Sequence[SurveyedColumn], kind: TableKind) -> tuple[str, ...]:
    """Return the columns that are worth keeping and whose names the settings take."""
    names = [column.name for column in columns if _is_attribute(column) and len(column.name) <= LONGEST_NAME]
    settings = UserColumnSettings if kind == "users" else ItemColumnSettings
    return tuple(name for name in names if settings.no_attribute(name, names) is None)


def _of_events(columns: Sequence[SurveyedColumn]) -> Roles:
    found: dict[str, str] = {}
    undecided: dict[str, tuple[str, ...]] = {}
    for role in ("user", "item", "timestamp", "rating", "weight"):
        free = [column for column in columns if column.name not in found.values() and _can_be(column, role)]
        alike = [column for column in _like(columns, role) if column in free]
        best = [column for column in alike if _fit(column, role) == _fit(alike[0], role)]
        if role == "weight" and len(best) == 1 and not _is_clear_weight(best[0]):
            undecided[role] = (best[0].name,)
        elif len(best) == 1:
            found[role] = best[0].name
        elif role == "timestamp" and not alike and len(free) == 1:
            found[role] = free[0].name  # nothing else can be the time
        elif role in ("user", "item", "timestamp"):
            undecided[role] = tuple(column.name for column in best or free)
        elif role == "rating":
            may_be = [column.name for column in _like(columns, role) if column.name not in found.values() and column.distinct]
            undecided |= {role: tuple(may_be)} if may_be else {}
    return Roles(found, undecided)


def _words(name: str) -> list[str]:
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]
    ends = [re.fullmatch(r"([a-z]{3,})(id|key|code)s?", word) for word in words]  # itemid is an item's id
    return [*words, *(part for end in ends if end for part in end.groups())]


def _fit(column: SurveyedColumn, role: str) -> tuple[bool, int]:
    """Return how well a name fits: whether it is an id, and how early its word comes in the list of words."""
    if KNOWN.get(column.name.lower()) == role:
        return True, 1
    words = _words(column.name)
    stems = {word.removesuffix("s") for word in words} | set(words)
    places = [place for place, word in enumerate(WORDS[role]) if word in stems]
    return bool(ID_WORDS & set(words)) and role in ("user", "item"), -min(places, default=99)


def _like(columns: Sequence[SurveyedColumn], role: str) -> list[SurveyedColumn]:
    """Return the columns whose names have a word of the role, the best first."""
    found = [column for column in columns if _fit(column, role)[1] > -99]
    return sorted(found, key=lambda column: _fit(column, role), reverse=True)


def _can_be(column: SurveyedColumn, role: str) -> bool:
    if not column.distinct:
        return False
    if role in ("user", "item"):
        return (column.kind in ("integer", "text") or column.is_whole) and column.distinct > 1
    if role == "timestamp":
        return bool(column.formats)
    if role == "rating":
        return column.kind in ("integer", "number") and column.distinct <= 1001 and not column.formats
    if role == "weight":
        return _may_weigh(column)
    if role in ("year", "age"):
        return column.is_whole
    return column.kind in ("integer", "text") if role != "updated_at" else "s" in column.formats


def _may_weigh(column: SurveyedColumn) -> bool:
    """Return whether a column may say how much an event counts: kinds of event, or numbers that are neither ids nor times."""
    if column.kind == "text":
        return column.distinct <= MOST_KINDS
    if column.kind not in ("integer", "number") or column.formats or column.low.startswith("-") or column.distinct < 2:
        return False
    names_ids = bool(ID_WORDS & set(_words(column.name))) and column.distinct > MOST_KINDS
    numbers_rows = column.kind == "integer" and column.distinct >= 0.9 * column.rows
    return not names_ids and not numbers_rows


def _is_clear_weight(column: SurveyedColumn) -> bool:
    """Return whether a column surely says how much an event counts, so that no event is left out or bad if it is used."""
    return column.kind == "text" or ("weight" in _words(column.name) and not column.missing and float(column.low) > 0)


def _is_key(columns: Sequence[SurveyedColumn], name: str) -> bool:
    found = next((column for column in columns if column.name == name), None)
    return found is not None and found.distinct >= 0.9 * (found.rows - found.missing) > 0


def _is_attribute(column: SurveyedColumn) -> bool:
    """Return whether a further column is worth keeping: a number, or a text that several rows share."""
    if column.kind in ("number", "integer"):
        return column.distinct > 1 and not column.formats
    return column.kind in ("text", "yes or no") and 1 < column.distinct <= min(MOST_CATEGORIES, max(column.rows // 2, 2))
