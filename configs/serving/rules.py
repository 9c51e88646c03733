"""Business rules: the YAML file that serving applies to every ranking and reloads when it changes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from configs.base import Settings, Share
from configs.period import Period

__all__ = ["AttributeValue", "Attributes", "Audience", "Boost", "Diversity", "Exclude", "Pin", "RuleFile", "Selection", "Years"]

Name = Annotated[str, Field(min_length=1, max_length=80)]


def _an_id(given: Any) -> int | str:
    if (type(given) is int and abs(given) < 2**63) or (isinstance(given, str) and 1 <= len(given) <= MOST_ID):
        return given
    raise ValueError(f"must be an id: a whole number, or text of 1 to {MOST_ID} characters")


def _a_value(given: Any) -> str | float | None:
    if given is None or (isinstance(given, str) and len(given) <= MOST_VALUE):
        return given
    if isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given):
        return given
    raise ValueError(f"must be a number, null, or text of at most {MOST_VALUE:,} characters")


MOST_ID, MOST_VALUE = 500, 1000  # characters
ItemId = Annotated[int | str, PlainValidator(_an_id, json_schema_input_type=Annotated[int, Field(ge=-(2**63), lt=2**63)] | str)]
AttributeValue = Annotated[str | float | None, PlainValidator(_a_value, json_schema_input_type=str | float | None)]
Attributes = dict[str, Annotated[tuple[AttributeValue, ...], Field(min_length=1, max_length=1000)]]
Years = tuple[Annotated[int, Field(ge=0, le=9999)], Annotated[int, Field(ge=0, le=9999)]]


class Selection(Settings):
    """Selects the items that meet every given condition. At least one condition is required."""

    items: tuple[ItemId, ...] | None = None
    """Ids of items, as in the events. Write text ids in quotes if they look like numbers."""
    genres: tuple[str, ...] | None = None
    """Items that have any of these genres."""
    years: Years | None = None
    """First and last year, both included. An item of unknown year matches no range."""
    attributes: Attributes | None = None
    """Values of the attributes that the data has (`data.columns_items.attributes`). For categories, any of the listed ones:
    `{brand: [Acme, Birk]}`. For numbers, the least and the greatest: `{price: [10, 20]}`, or `[10, null]` without an end. An item must
    match every attribute. An unknown value matches nothing."""
    min_popularity: float | None = Field(default=None, ge=0)
    """Minimum number of events of the item in the model's train part."""
    max_popularity: float | None = Field(default=None, ge=0)
    """Maximum number of events of the item in the model's train part."""

    @model_validator(mode="after")
    def _selects(self) -> Selection:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(f"give at least one condition of {', '.join(type(self).model_fields)}")
        if self.years is not None and self.years[0] > self.years[1]:
            raise ValueError(f"years run from {self.years[0]} to {self.years[1]}: the first year must not be after the last")
        if self.min_popularity is not None and self.max_popularity is not None and self.min_popularity > self.max_popularity:
            raise ValueError(
                f"min_popularity ({self.min_popularity:g}) must not be above max_popularity ({self.max_popularity:g})"
            )
        return self


class Audience(Settings):
    """Requests that a rule applies to. Without a condition, it applies to all."""

    min_history: int = Field(default=0, ge=0)
    """Minimum number of events in the user's history."""
    max_history: int | None = Field(default=None, ge=0)
    """Maximum number of events in the user's history. If empty, there is no maximum."""
    genres: tuple[str, ...] = ()
    """Users with at least `genre_share` of their events on items of any of these genres. If empty, all users."""
    attributes: Attributes = Field(default={})
    """Users with at least `genre_share` of their events on items that have these attributes, as in `where`. If empty, all users."""
    genre_share: float = Field(default=0.3, gt=0, le=1)
    """Minimum share of the user's events on items of `genres`, and on items that have `attributes`."""

    @model_validator(mode="after")
    def _somebody_is_meant(self) -> Audience:
        if self.max_history is not None and self.min_history > self.max_history:
            raise ValueError(f"min_history ({self.min_history}) must not be above max_history ({self.max_history})")
        return self

    @property
    def everybody(self) -> bool:
        return not self.min_history and self.max_history is None and not self.genres and not self.attributes


class _Rule(Settings):
    name: Name
    """Unique name of the rule. It is included in every response that the rule affected."""
    during: Period = Period()
    """Period in which the rule applies."""
    audience: Audience = Audience()
    """Requests that the rule applies to."""


class Exclude(_Rule):
    """Excludes items: they are never shown, not even if they are pinned."""

    action: Literal["exclude"]
    where: Selection
    """Items to exclude."""


class Boost(_Rule):
    """Moves items up or down in the ranking."""

    action: Literal["boost"]
    where: Selection
    """Items to move."""
    by: float = Field(allow_inf_nan=False, ge=-100, le=100)
    """Value added to the score, in standard deviations of the request's scores over the catalogue, so that its effect does not
    depend on the model. Negative values move items down."""


class Pin(_Rule):
    """Shows items at a fixed position, regardless of their score.

    Items that the user has seen, or that another rule or the request's own filters exclude, are not shown.
    """

    action: Literal["pin"]
    items: tuple[ItemId, ...] = Field(min_length=1)
    """Ids of items, as in the events. The first item is shown at `position`, the others after it."""
    position: int = Field(default=1, ge=1)
    """Position of the first item, counted from 1. If two pins claim the same position, the earlier one in the file gets it and
    the other gets the next free position."""


class Diversity(Settings):
    """Diversification by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over the top of the ranking."""

    weight: Share = 0.0
    """Weight of diversity: 0 ranks by score only, 1 only by dissimilarity to the items ranked above."""
    pool: int = Field(default=100, ge=1, le=2000)
    """Number of top items by score to choose from. If a request asks for more items, the pool is as large as the request."""
    by: str = Field(default="genres", min_length=1, max_length=100)
    """What makes items similar: shared `genres` (Jaccard index), the model's `embeddings` (cosine), or the name of an attribute: equal
    categories, or numbers in the same tenth of the catalogue. A model without embeddings uses genres, and a catalogue without genres
    uses embeddings."""


class RuleFile(Settings):
    """Content of the YAML file of business rules."""

    seen: Literal["hide", "show"] | None = None
    """Whether to hide or show items from the user's own history. If empty, they are shown if the dataset keeps repeats
    (`data.repeats: keep`), as in a shop where people buy the same again, and hidden otherwise. The gate ranks in the same way."""
    min_popularity: float = Field(default=0, ge=0)
    """Minimum number of events of an item in the model's train part. Pins override it."""
    max_new_share: Share | None = None
    """Largest share of a list that items without an event in the model's train part may take, rounded down to whole items. Models with
    `item_attributes` recommend such items. If empty, there is no bound. Pins override it."""
    diversity: Diversity = Diversity()
    rules: tuple[Annotated[Exclude | Boost | Pin, Field(discriminator="action")], ...] = Field(default=(), max_length=1000)
    """Business rules, in order."""

    @model_validator(mode="after")
    def _names_tell(self) -> RuleFile:
        for name, count in Counter(rule.name for rule in self.rules).items():
            if count > 1:
                raise ValueError(f"two rules have the name {name!r}: responses list rules by name, so each name must be unique")
        return self
