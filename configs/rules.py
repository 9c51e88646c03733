"""Business rules: the YAML file that serving applies to every ranking, and reads again whenever it changes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.base import Settings, Share
from configs.period import Period

__all__ = ["Audience", "Boost", "Diversity", "Exclude", "Pin", "RuleFile", "Selection", "Years"]

Name = Annotated[str, Field(min_length=1, max_length=80)]
Years = tuple[Annotated[int, Field(ge=0, le=9999)], Annotated[int, Field(ge=0, le=9999)]]


class Selection(Settings):
    """Films that fulfil every condition that is given. At least one must be."""

    movies: tuple[int, ...] | None = None
    """Raw movie ids."""
    genres: tuple[str, ...] | None = None
    """Films with any of these."""
    years: Years | None = None
    """First and last year, both inside; a film of unknown year is in no range."""
    min_popularity: float | None = Field(default=None, ge=0)
    """Least events in the model's train part."""
    max_popularity: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _selects(self) -> Selection:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(f"give at least one condition of {', '.join(type(self).model_fields)}")
        if self.years is not None and self.years[0] > self.years[1]:
            raise ValueError(f"years run from {self.years[0]} to {self.years[1]}: the first must not be the later one")
        return self


class Audience(Settings):
    """Requests that a rule is for; without a condition, all."""

    min_history: int = Field(default=0, ge=0)
    """Least events that the user has."""
    max_history: int | None = Field(default=None, ge=0)
    genres: tuple[str, ...] = ()
    """Users of whose events at least `genre_share` are on films with any of these."""
    genre_share: float = Field(default=0.3, gt=0, le=1)

    @property
    def everybody(self) -> bool:
        return not self.min_history and self.max_history is None and not self.genres


class _Rule(Settings):
    name: Name
    """Told with every answer that the rule shaped."""
    during: Period = Period()
    audience: Audience = Audience()


class Exclude(_Rule):
    """Films that are never shown, not even pinned."""

    action: Literal["exclude"]
    where: Selection


class Boost(_Rule):
    """Films that are moved up, or down."""

    action: Literal["boost"]
    where: Selection
    by: float = Field(allow_inf_nan=False, ge=-100, le=100)
    """Added to the score, in standard deviations of the request's scores over the catalogue, so that it means the same for every
    model; below 0 moves down."""


class Pin(_Rule):
    """Films that are shown at a fixed place, whatever their score, unless the user has seen them, another rule excludes them or
    the request's own filters do."""

    action: Literal["pin"]
    movies: tuple[int, ...] = Field(min_length=1)
    """Raw ids, for the position and those after it."""
    position: int = Field(default=1, ge=1)
    """From 1. Where two pins want one place, the earlier one in the file has it and the other the next free one."""


class Diversity(Settings):
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over the best of the ranking."""

    weight: Share = 0.0
    """0 ranks by score alone, 1 by difference from the films above alone."""
    pool: int = Field(default=100, ge=1, le=2000)
    """Best films by score that are chosen from, where that is more than are asked for."""
    by: Literal["genres", "embeddings"] = "genres"
    """Alike is what shares genres (Jaccard), or points the same way in the model (cosine); a model without embeddings uses genres."""


class RuleFile(Settings):
    """The whole file."""

    seen: Literal["hide", "show"] = "hide"
    """Films of the user's own history."""
    min_popularity: float = Field(default=0, ge=0)
    """Least events of a film in the model's train part; a pin overrides it."""
    diversity: Diversity = Diversity()
    rules: tuple[Annotated[Exclude | Boost | Pin, Field(discriminator="action")], ...] = ()

    @model_validator(mode="after")
    def _names_tell(self) -> RuleFile:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rules have the name {name!r}: an answer would not tell which of them shaped it")
        return self
