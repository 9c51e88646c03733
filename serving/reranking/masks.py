"""Rules compiled for one catalogue: the items that each rule selects are computed once, not with every request."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.serving import Attributes, AttributeValue, Audience, Boost, Exclude, Pin, RuleFile, Selection
from serving.catalogue import Attribute, Catalogue

__all__ = ["CatalogueRules", "Shape"]

SHAPES = 64  # combinations of active rules that are cached
UNPOPULAR = "min_popularity"
Mask = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shape:
    """The combined effect of the active rules."""

    excluded: Mask | None  # (n,) items excluded by rules
    open: Mask | None  # (n,) items that are neither excluded nor too unpopular; None if all are open
    closed: npt.NDArray[np.float32] | None  # (n,) upper bound of scores: -inf if excluded or not popular enough, else inf
    offset: npt.NDArray[np.float32] | None  # (n,) sum of boosts, in standard deviations
    boosts: list[tuple[str, Mask]]
    pins: list[tuple[int, int, str]]  # place from 0, item, rule
    left_out: dict[str, int]

    def boosts_of(self, item: int) -> list[str]:
        return [name for name, selected in self.boosts if selected[item]]


class CatalogueRules:
    """The rules of a file, compiled for one catalogue."""

    def __init__(self, file: RuleFile, catalogue: Catalogue) -> None:
        # A weak reference: `Rules` keeps this object as long as the catalogue lives, and an unloaded version must be freed.
        self._file, self._catalogue = file, weakref.proxy(catalogue)
        self.genre_columns: dict[str, Mask] = {
            genre: np.ascontiguousarray(catalogue.genre_bits[:, place]) for place, genre in enumerate(catalogue.genres)
        }
        self._genre_rows = catalogue.genre_bits.astype(np.float32)
        self._years = catalogue.years.astype(np.int16)
        self._unpopular: Mask | None = None
        if file.min_popularity > 0:
            self._unpopular = catalogue.popularity < file.min_popularity
        self.new: IntArray = (
            np.flatnonzero(catalogue.popularity == 0) if file.max_new_share is not None else np.empty(0, np.int64)
        )
        """The items without train events, if their share is bounded."""
        self._selected = {rule.name: self._select(rule.where) for rule in file.rules if isinstance(rule, Exclude | Boost)}
        self._conditional = any(not rule.during.always or not rule.audience.everybody for rule in file.rules)
        self._shapes: OrderedDict[tuple[bool, ...], Shape] = OrderedDict()
        self._constant = None if self._conditional else self._shape(tuple(True for _ in file.rules))

    def shape(self, history: IntArray, events: int, now: int) -> Shape:
        """Return the combined effect of the rules that are active for this user.

        Args:
            history: The items of the user's events that are kept and known to the catalogue.
            events: The number of all events of the user.
            now: UTC seconds of the request.
        """
        if self._constant is not None:
            return self._constant
        key = tuple(rule.during.holds(now) and self._meant(rule.audience, history, events) for rule in self._file.rules)
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = self._shape(key)
            if len(self._shapes) > SHAPES:
                self._shapes.popitem(last=False)
        return found

    def within(self, first: int | None, last: int | None) -> Mask:
        """Return the items (n,) with a known year in the range."""
        inside: Mask = self._years >= max(1, min(first or 1, 9999))
        if last is not None:
            inside &= self._years <= max(0, min(last, 9999))
        return inside

    def unknown(self) -> list[str]:
        """Return a sentence for each rule that names items, genres or attributes missing from the catalogue."""
        said = []
        by = self._file.diversity.by
        if self._file.diversity.weight and by not in ("genres", "embeddings", *self._catalogue.attributes):
            said.append(f"diversity.by names the attribute {by!r}, which is missing from the catalogue: it has {self._listed()}.")
        for rule in self._file.rules:
            items = rule.items if isinstance(rule, Pin) else rule.where.items or ()
            genres = [*(() if isinstance(rule, Pin) else rule.where.genres or ()), *rule.audience.genres]
            attributes = {
                **(dict[str, Any]() if isinstance(rule, Pin) else rule.where.attributes or {}),
                **rule.audience.attributes,
            }
            missing = [f"item {item}" for item in items if self._catalogue.index_named(item) is None]
            missing += [f"genre {genre}" for genre in genres if genre not in self.genre_columns]
            for name, values in attributes.items():
                missing += self._missing(name, values)
            if missing:
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                said.append(f"The rule {rule.name!r} names entries missing from the catalogue: {', '.join(missing[:5])}{more}.")
        return said

    def _select(self, where: Selection) -> Mask:
        catalogue = self._catalogue
        selected = np.ones(len(catalogue), dtype=bool)
        if where.items is not None:
            named = np.zeros(len(catalogue), dtype=bool)
            named[[index for item in where.items if (index := catalogue.index_named(item)) is not None]] = True
            selected &= named
        if where.genres is not None:
            selected &= self._any_of(where.genres)
        if where.years is not None:
            selected &= self.within(*where.years)
        if where.attributes is not None:
            selected &= self._having(where.attributes)
        if where.min_popularity is not None:
            selected &= catalogue.popularity >= where.min_popularity
        if where.max_popularity is not None:
            selected &= catalogue.popularity <= where.max_popularity
        return selected

    def similarity_flags(self, by: str) -> Callable[[IntArray], npt.NDArray[np.float32]] | None:
        """Return a function from items (m,) to flags (m, d) by which they are compared, or None if the catalogue has no such trait."""
        attribute: Attribute | None = self._catalogue.attributes.get(by)
        if attribute is not None:
            return attribute.groups
        return self._genres_of if by == "genres" and self._catalogue.genres else None

    def _genres_of(self, items: IntArray) -> npt.NDArray[np.float32]:
        return self._genre_rows[items]

    def _having(self, attributes: Attributes) -> Mask:
        """Return the items with all of these attributes. One that the catalogue lacks matches nothing, as `unknown` says."""
        selected = np.ones(len(self._catalogue), dtype=bool)
        for name, values in attributes.items():
            attribute = self._catalogue.attributes.get(name)
            try:
                selected &= False if attribute is None else attribute.having(values)
            except ValueError:
                selected &= False
        return selected

    def _missing(self, name: str, values: Sequence[AttributeValue]) -> list[str]:
        attribute = self._catalogue.attributes.get(name)
        if attribute is None:
            return [f"attribute {name} (it has {self._listed()})"]
        try:
            attribute.having(values)
        except ValueError as error:
            return [f"attribute {name}, which {error}"]
        return [f"{name} {value}" for value in attribute.unknown(values)]

    def _listed(self) -> str:
        return ", ".join(self._catalogue.attributes) or "none"

    def _any_of(self, genres: tuple[str, ...]) -> Mask:
        columns = [self.genre_columns[genre] for genre in genres if genre in self.genre_columns]
        return np.logical_or.reduce(columns) if columns else np.zeros(len(self._catalogue), dtype=bool)

    def _meant(self, audience: Audience, history: IntArray, events: int) -> bool:
        if events < audience.min_history or (audience.max_history is not None and events > audience.max_history):
            return False
        likes = [self._any_of(audience.genres)] if audience.genres else []
        likes += [self._having(audience.attributes)] if audience.attributes else []
        return all(len(history) > 0 and float(liked[history].mean()) >= audience.genre_share for liked in likes)

    def _shape(self, active: tuple[bool, ...]) -> Shape:
        rules = [rule for rule, on in zip(self._file.rules, active, strict=True) if on]
        excludes = [rule for rule in rules if isinstance(rule, Exclude)]
        boosts = [rule for rule in rules if isinstance(rule, Boost)]
        left_out = {rule.name: int(self._selected[rule.name].sum()) for rule in excludes}
        if self._unpopular is not None:
            left_out[UNPOPULAR] = int(self._unpopular.sum())
        offset = None
        if boosts:
            offset = np.zeros(len(self._catalogue), np.float32)
            for rule in boosts:
                offset[self._selected[rule.name]] += np.float32(rule.by)
        excluded = np.logical_or.reduce([self._selected[rule.name] for rule in excludes]) if excludes else None
        shut = [mask for mask in (excluded, self._unpopular) if mask is not None]
        is_open = ~np.logical_or.reduce(shut) if shut else None
        index_of: Callable[[int | str], int | None] = self._catalogue.index_named
        return Shape(
            excluded=excluded,
            open=is_open,
            closed=None if is_open is None else np.where(is_open, np.float32(np.inf), np.float32(-np.inf)),
            offset=offset,
            boosts=[(rule.name, self._selected[rule.name]) for rule in boosts],
            pins=[
                (rule.position - 1 + place, item, rule.name)
                for rule in rules
                if isinstance(rule, Pin)
                for place, wanted in enumerate(rule.items)
                if (item := index_of(wanted)) is not None
            ],
            left_out=left_out,
        )
