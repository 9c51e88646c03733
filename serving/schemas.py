"""What goes in and out over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "EventIn",
    "EventOut",
    "EventsRequest",
    "EventsResponse",
    "Health",
    "Item",
    "ItemsResponse",
    "ModelOut",
    "ModelsResponse",
    "Problem",
    "RecommendationRequest",
    "RecommendationResponse",
    "SimilarResponse",
    "UserEventsResponse",
]

LARGEST = 2**53 - 1  # what JSON numbers hold exactly
LATEST = 2**33  # the year 2242: whatever is beyond is no second of UTC


def _number(given: Any) -> Any:
    """A text that looks like a number is none, and neither is true."""
    if isinstance(given, (str, bool)):
        raise ValueError("it is a whole number")
    return given


Whole = Annotated[int, BeforeValidator(_number)]
Id = Annotated[Whole, Field(ge=0, le=LARGEST)]
Seconds = Annotated[Whole, Field(ge=0, le=LATEST, description="UTC seconds; milliseconds are refused.")]
Genre = Annotated[str, Field(min_length=1, max_length=100)]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,80}$")]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HistoryItem(_In):
    """An event of the history that a request brings along."""

    movie_id: Id
    time: Seconds | None = Field(default=None, description="Without one it happened at the request's time, in the given order.")


class RecommendationRequest(_In):
    """Who asks, and for what. Without a user and without a history nothing is known of who asks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": 42, "k": 10},
                {"history": [{"movie_id": 50, "time": 881250949}, {"movie_id": 172, "time": 881250999}], "k": 5},
                {"user_id": 42, "k": 10, "genres": ["Comedy"], "year_from": 1990, "explain": True},
            ]
        }
    )

    user_id: Id | None = None
    history: list[HistoryItem] | None = Field(default=None, description="Read after the user's own events, in order of time.")
    k: Annotated[Whole, Field(ge=1)] = 10
    time: Seconds | None = Field(
        default=None,
        description="When it is asked; now by default. What happened later is not read. Far from the server's clock it is a "
        "question of what would be shown, and no exposure of an experiment.",
    )
    genres: list[Genre] = Field(default=[], max_length=50, description="Only films with any of these.")
    year_from: Annotated[Whole, Field(ge=0, le=9999)] | None = None
    year_to: Annotated[Whole, Field(ge=0, le=9999)] | None = None
    exclude: list[Id] = Field(default=[], max_length=10_000, description="Films that are not wanted.")
    likes: list[Genre] = Field(default=[], max_length=50, description="Genres that somebody new says to like.")
    version: Version | None = Field(default=None, description="A served version other than the user's own.")
    explain: bool = Field(default=False, strict=True, description="Say which event of the history is nearest to each film.")

    @model_validator(mode="after")
    def _years_are_ordered(self) -> RecommendationRequest:
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise ValueError(f"year_from ({self.year_from}) is after year_to ({self.year_to})")
        return self


class Item(BaseModel):
    """A film."""

    movie_id: int
    title: str = Field(description="Empty where none is known.")
    year: int | None
    genres: list[str]


class Because(BaseModel):
    movie_id: int
    title: str
    similarity: float = Field(description="Cosine of the model's vectors.")


class RecommendedItem(Item):
    score: float
    rules: list[str] = Field(description="Rules that brought the film in or moved it.")
    because: Because | None = None


class RecommendationResponse(BaseModel):
    """A ranking by one version of the model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": "20261124T092748Z-3d7722adc38c890dc97d1200d90f7be0",
                    "user_id": 42,
                    "time": 1795512468,
                    "source": "state",
                    "detail": "",
                    "events": 57,
                    "cached": False,
                    "experiment": None,
                    "arm": None,
                    "items": [
                        {
                            "movie_id": 318,
                            "title": "Shawshank Redemption, The",
                            "year": 1994,
                            "genres": ["Crime", "Drama"],
                            "score": 4.25,
                            "rules": [],
                            "because": None,
                        }
                    ],
                }
            ]
        }
    )

    version: str
    user_id: int | None
    time: int = Field(description="UTC seconds that were reckoned from.")
    source: Literal["state", "rebuilt", "history", "cold"] = Field(
        description="The kept state; a state built anew from the kept events; a given history; nothing known."
    )
    detail: str = Field(description="Of a cold answer: recent, popular or genres.")
    events: int = Field(description="Events of the user that count, the given ones among them.")
    cached: bool
    experiment: str | None
    arm: str | None
    items: list[RecommendedItem]


class EventIn(_In):
    """One event of a user."""

    user_id: Id
    movie_id: Id
    time: Seconds | None = Field(default=None, description="Now by default.")
    event_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="The same id is applied once. Without one an event with a time is known by its film and time.",
    )


class EventsRequest(_In):
    """Events of any users; those of one user in the order in which they happened."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"user_id": 42, "movie_id": 318, "time": 1790000000, "event_id": "click-9f3"}]}]
        }
    )

    events: list[EventIn] = Field(min_length=1)


class EventOut(BaseModel):
    outcome: Literal["applied", "late", "duplicate", "too_old"] = Field(
        description="late: put before later ones, and the state built anew. too_old: older than all events that are kept."
    )
    known: bool = Field(description="Whether the model knows the film; if not, the event waits for a model that does.")
    version: str = Field(description="Version whose state was advanced.")


class EventsResponse(BaseModel):
    results: list[EventOut] = Field(description="In the order of the request.")


class SimilarItem(Item):
    similarity: float


class SimilarResponse(BaseModel):
    version: str
    item: Item
    items: list[SimilarItem]


class ItemsResponse(BaseModel):
    version: str
    items: list[Item]


class UserEvent(BaseModel):
    movie_id: int
    title: str
    time: int


class UserEventsResponse(BaseModel):
    user_id: int
    count: int = Field(description="Events ever accepted; the latest of them are listed.")
    events: list[UserEvent] = Field(description="Oldest first.")


class ModelOut(BaseModel):
    version: str
    role: Literal["champion", "beside"]
    kind: str
    promotion: int
    items: int
    state_bytes: int


class RefusedOut(BaseModel):
    version: str
    promotion: int
    reason: str
    when: str


class ModelsResponse(BaseModel):
    """What this worker serves."""

    model_name: str
    promotion: int | None = Field(description="Newest entry of the promotion log.")
    served: list[ModelOut]
    refused: list[RefusedOut] = Field(description="Versions that do not work, and why.")


class Health(BaseModel):
    status: str


class ProblemError(BaseModel):
    where: str
    what: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request's id.")
    errors: list[ProblemError] = []
