"""The request bodies of the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["LARGEST", "EventIn", "EventsRequest", "HistoryItem", "RecommendationRequest"]

LARGEST = 2**53 - 1  # the largest integer that JSON numbers represent exactly
LATEST = 2**33  # the year 2242; larger values are not UTC seconds


def _number(given: Any) -> Any:
    """Refuse strings and booleans, which pydantic would convert to numbers."""
    if isinstance(given, (str, bool)):
        raise ValueError("must be a whole number")
    return given


Whole = Annotated[int, BeforeValidator(_number)]
Id = Annotated[Whole, Field(ge=0, le=LARGEST)]
Seconds = Annotated[Whole, Field(ge=0, le=LATEST, description="UTC seconds; milliseconds are refused.")]
Genre = Annotated[str, Field(min_length=1, max_length=100)]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,80}$")]


# Clients of earlier versions send movie_id.
ItemId = Annotated[Id, Field(validation_alias=AliasChoices("item_id", "movie_id"))]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HistoryItem(_In):
    """An event of the history that is sent with a request."""

    item_id: ItemId
    time: Seconds | None = Field(default=None, description="Defaults to the request's time; the given order counts.")


class RecommendationRequest(_In):
    """A user, a history, or both, and filters. With neither a user nor a history, the answer is a cold start."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": 42, "k": 10},
                {"history": [{"item_id": 50, "time": 881250949}, {"item_id": 172, "time": 881250999}], "k": 5},
                {"user_id": 42, "k": 10, "genres": ["Comedy"], "year_from": 1990, "explain": True},
            ]
        }
    )

    user_id: Id | None = None
    history: list[HistoryItem] | None = Field(default=None, description="Added to the user's own events, in order of time.")
    k: Annotated[Whole, Field(ge=1)] = 10
    time: Seconds | None = Field(
        default=None,
        description="Time of the request; defaults to now. Later events are ignored. If it is far from the server's clock, the "
        "request is hypothetical and does not count as an exposure of an experiment.",
    )
    genres: list[Genre] = Field(default=[], max_length=50, description="Only films with any of these.")
    year_from: Annotated[Whole, Field(ge=0, le=9999)] | None = None
    year_to: Annotated[Whole, Field(ge=0, le=9999)] | None = None
    exclude: list[Id] = Field(default=[], max_length=10_000, description="Films to leave out.")
    likes: list[Genre] = Field(default=[], max_length=50, description="Genres that a new user likes.")
    version: Version | None = Field(default=None, description="A served version that replaces the user's own.")
    explain: bool = Field(
        default=False, strict=True, description="Name the event of the history that is most similar to each film."
    )

    preview: bool = Field(
        default=False,
        strict=True,
        description="Somebody else than the user looks at the list, as in a demo. The answer is the user's own, with their arm of "
        "an experiment, but it is no exposure, so the user does not enter the experiment. Shadow versions do not answer.",
    )

    @model_validator(mode="after")
    def _years_are_ordered(self) -> RecommendationRequest:
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise ValueError(f"year_from ({self.year_from}) is after year_to ({self.year_to})")
        return self


class EventIn(_In):
    """One event of a user."""

    user_id: Id
    item_id: ItemId
    time: Seconds | None = Field(default=None, description="Defaults to now.")
    event_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="An event with the same id is applied only once. Without an id, an event with a time is identified by its "
        "film and time.",
    )


class EventsRequest(_In):
    """Events of any users. Events of one user are in the order in which they happened."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"user_id": 42, "item_id": 318, "time": 1790000000, "event_id": "click-9f3"}]}]
        }
    )

    events: list[EventIn] = Field(min_length=1)
