"""The request bodies of the HTTP API.

A body with a fault in each of its values must not cost more than its answer can tell. The check of a list stops at its first bad
element, and an object with many unknown keys is refused as a whole.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import core_schema

from configs.serving import OutcomeKind
from models.columns import Columns
from serving.api.ids import AnyId, whole_only
from serving.experiments import LATEST

__all__ = [
    "EXCLUDED",
    "OBJECTS",
    "EventIn",
    "EventsRequest",
    "HistoryItem",
    "OutcomeIn",
    "OutcomesRequest",
    "RecommendationRequest",
]

EXCLUDED = 10_000  # items that a request may leave out
MOST = 2**63 - 1  # the largest whole number
LARGEST_VALUE = 1e12  # of an outcome, so that a sum of them stays exact enough
KEYS = 20  # of one object; more than any has
NONE: Any = ()  # the default of a list: pydantic would copy an empty list for each request, which takes longer than to read the body


class Whole:
    """Marks an integer field as a whole number within bounds.

    An integer is checked without a call of a Python function, which would take twenty times as long. Other values are rare: a
    fraction such as 3.0 is taken as 3, and text and booleans are refused.
    """

    def __init__(self, least: int = 0, *, most: int, what: str = "a whole number") -> None:
        self._least, self._most, self._what = least, most, what

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        other = core_schema.int_schema(ge=self._least, le=self._most)
        return core_schema.union_schema(
            [
                core_schema.int_schema(strict=True, ge=self._least, le=self._most),
                core_schema.no_info_before_validator_function(whole_only, other),
            ],
            mode="left_to_right",
            custom_error_type="whole_number",
            custom_error_message=f"must be {self._what} from {self._least:,} to {self._most:,}",
        )


UserId = Annotated[int | str, AnyId("user_id")]
AnyItemId = Annotated[int | str, AnyId("item_id")]
Year = Annotated[int, Whole(most=9999)]
Seconds = Annotated[
    int, Whole(most=LATEST, what="UTC seconds, a whole number"), Field(description="UTC seconds; milliseconds are refused.")
]
Genre = Annotated[str, Field(min_length=1, max_length=100)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Value = Annotated[str, Field(strict=True, max_length=1000)] | Annotated[float, Field(strict=True)] | None


def _few(given: Any) -> Any:
    """Refuse an object with many keys as a whole, before each of its values is looked at."""
    if isinstance(given, dict) and len(given) > KEYS:
        raise ValueError(f"has {len(given):,} keys; at most {KEYS} are allowed")
    return given


Attributes = Annotated[
    dict[Name, Annotated[list[Value], Field(fail_fast=True, min_length=1, max_length=50)]], BeforeValidator(_few)
]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,80}$")]


# Clients of earlier versions send a former name.
ItemId = Annotated[AnyItemId, Field(validation_alias=AliasChoices(Columns.ITEM, Columns.FORMER_ITEM))]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > KEYS:
            raise ValueError(f"has {len(given):,} keys; known keys: {', '.join(cls.model_fields)}")
        return given


class HistoryItem(_In):
    """An event of the history that is sent with a request."""

    item_id: ItemId
    time: Seconds | None = Field(default=None, description="Defaults to the request's time; the given order counts.")


class RecommendationRequest(_In):
    """A user, a history, or both, and filters. With neither a user nor a history, the answer is a cold start."""

    user_id: UserId | None = None
    history: list[HistoryItem] | None = Field(
        fail_fast=True, default=None, description="Added to the user's own events, in order of time."
    )
    k: Annotated[int, Whole(1, most=MOST)] = 10
    time: Seconds | None = Field(
        default=None,
        description="Time of the request; defaults to now. Later events are ignored. If it is far from the server's clock, the "
        "request is hypothetical and does not count as an exposure of an experiment.",
    )
    genres: list[Genre] = Field(fail_fast=True, default=NONE, max_length=50, description="Only items with any of these.")
    year_from: Year | None = None
    year_to: Year | None = None
    exclude: list[AnyItemId] = Field(fail_fast=True, default=NONE, max_length=EXCLUDED, description="Items to leave out.")
    likes: list[Genre] = Field(fail_fast=True, default=NONE, max_length=50, description="Genres that a new user likes.")
    attributes: Attributes = Field(
        default_factory=dict,
        json_schema_extra={"default": {}},
        description="Only items that have these attributes: any of the listed categories, or the least and the greatest number.",
    )
    like_attributes: Attributes = Field(
        default_factory=dict,
        json_schema_extra={"default": {}},
        description="Attributes that a new user likes, written in the same way.",
    )
    version: Version | None = Field(default=None, description="A served version that replaces the user's own.")
    explain: bool = Field(
        default=False,
        strict=True,
        description="Name the event that is most similar to each item, of the latest 1,000 of the history.",
    )

    preview: bool = Field(
        default=False,
        strict=True,
        description="Someone other than the user looks at the list, as in a demo. The answer is the user's own, with their arm of "
        "an experiment, but it is not logged as an exposure, so the user does not enter the experiment. Shadow versions do not answer.",
    )

    @model_validator(mode="after")
    def _years_are_ordered(self) -> RecommendationRequest:
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise ValueError(f"year_from ({self.year_from}) is after year_to ({self.year_to})")
        return self


class EventIn(_In):
    """One event of a user."""

    user_id: UserId
    item_id: ItemId
    time: Seconds | None = Field(default=None, description="Defaults to now.")
    event_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="An event with the same id is applied only once. Without an id, an event with a time is identified by its "
        "item and time.",
    )


class EventsRequest(_In):
    """Events of any users. Events of one user are in the order in which they happened."""

    events: list[EventIn] = Field(fail_fast=True, min_length=1)


class OutcomeIn(_In):
    """What a user did after a list was shown."""

    user_id: UserId
    kind: OutcomeKind
    item_id: AnyItemId | None = Field(
        default=None,
        validation_alias=AliasChoices(Columns.ITEM, Columns.FORMER_ITEM),
        description="Without it, the outcome counts only with the attribution `any`.",
    )
    time: Seconds | None = Field(default=None, description="Defaults to now.")
    value: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-LARGEST_VALUE, le=LARGEST_VALUE)] = Field(
        default=1.0, description="What it is worth, such as a price."
    )
    request_id: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        default=None, description="The header X-Request-Id of the answer with the list that led to it."
    )
    outcome_id: Annotated[str, Field(strict=True, min_length=1, max_length=200)] | None = Field(
        default=None,
        description="An outcome of the user with the same id counts once. Without an id, an outcome is identified by its content.",
    )

    @model_validator(mode="after")
    def _can_be_told_from_others(self) -> OutcomeIn:
        if self.outcome_id is None and self.time is None and self.request_id is None:
            raise ValueError("give outcome_id, time or request_id: an outcome that is sent again could not be recognised")
        return self


class OutcomesRequest(_In):
    """Outcomes of any users."""

    outcomes: list[OutcomeIn] = Field(fail_fast=True, min_length=1)


OBJECTS: dict[int | str, type[BaseModel]] = {"history": HistoryItem, "events": EventIn, "outcomes": OutcomeIn}
"""The objects in the lists of a body, by the name of the list."""
