"""The response bodies of the HTTP API.

They are plain dataclasses: they document the API and are written as JSON directly, without being validated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import to_json
from starlette.responses import Response

from models.schema import DataSchema, IdType
from serving.api.ids import AnyId
from serving.catalogue import ItemDescription, Value
from serving.engine import Answer, Role, ServedModel, Source
from serving.experiments import Assignment
from serving.follower import ChampionFollower, Refused
from serving.rollout import Underway
from serving.state import OutcomeLabel

__all__ = [
    "ErasureResponse",
    "EventOut",
    "EventsResponse",
    "Health",
    "Home",
    "Item",
    "ItemsResponse",
    "LogOut",
    "ModelOut",
    "ModelsResponse",
    "OutcomeOut",
    "OutcomesResponse",
    "Problem",
    "ProblemError",
    "Readiness",
    "RecommendationResponse",
    "RefusedOut",
    "Remaining",
    "RolloutOut",
    "SimilarItem",
    "SimilarResponse",
    "UserEvent",
    "UserEventsResponse",
    "json_response",
    "recommendation_response",
]


UserId = Annotated[int | str, AnyId("user_id")]
ItemId = Annotated[int | str, AnyId("item_id")]


def json_response(content: object) -> Response:
    """Return the content as a JSON response."""
    return Response(to_json(content), media_type="application/json")


@dataclass(slots=True)
class Item:
    """An item."""

    item_id: ItemId
    title: Annotated[str, Field(description="Empty if unknown.")]
    year: int | None
    genres: list[str]
    attributes: Annotated[
        dict[str, Value] | None, Field(description="What the team chose to store of an item. Null if that is nothing.")
    ]

    @classmethod
    def of(cls, item: ItemDescription) -> Item:
        return cls(*item)


@dataclass(slots=True)
class Because:
    item_id: ItemId
    title: str
    similarity: Annotated[float, Field(description="Cosine of the model's vectors.")]


@dataclass(slots=True)
class RecommendedItem(Item):
    score: float
    rules: Annotated[list[str], Field(description="Rules that brought the item in or moved it.")]
    because: Because | None = None


@dataclass(slots=True)
class RecommendationResponse:
    """A ranking by one version of the model."""

    version: str
    user_id: UserId | None
    time: Annotated[int, Field(description="UTC seconds for which the ranking was computed.")]
    source: Annotated[
        Source,
        Field(
            description="state: the stored state. rebuilt: a state computed from the known events. history: events sent with the "
            "request. cold: nothing is known."
        ),
    ]
    detail: Annotated[str, Field(description="Source of a cold-start answer: recent, popular, genres or attributes.")]
    events: Annotated[
        int, Field(description="Events of the user that the answer is based on, including those sent with the request.")
    ]
    cached: bool
    experiment: str | None
    arm: str | None
    items: list[RecommendedItem]


def recommendation_response(answer: Answer, user: int | str | None, time: int, assignment: Assignment) -> Response:
    """Return the response with the answer to a user's request for a time: a `RecommendationResponse` as JSON.

    It is put together from the descriptions of items that are kept as JSON. To write all of it takes several times as long.
    """
    tested = assignment.covers(answer.version)
    head = to_json(
        {
            "version": answer.version,
            "user_id": user,
            "time": time,
            "source": answer.source,
            "detail": answer.detail,
            "events": answer.events,
            "cached": answer.cached,
            "experiment": assignment.experiment if tested else None,
            "arm": assignment.arm if tested else None,
        }
    )
    items = ",".join(
        [
            f'{item.json},"score":{item.score!r},"rules":{_json(item.applied_rules) if item.applied_rules else "[]"},'
            f'"because":{"null" if item.explanation is None else _json(item.explanation)}}}'
            for item in answer.items
        ]
    )
    return Response(b'%b,"items":[%b]}' % (head[:-1], items.encode()), media_type="application/json")


def _json(content: object) -> str:
    return to_json(content).decode()


@dataclass(slots=True)
class EventOut:
    outcome: Annotated[
        OutcomeLabel | Literal["failed", "erased"],
        Field(
            description="late: inserted before later events, and the state rebuilt. too_old: older than all stored events. "
            "failed: not stored, unlike other events of the request; send it again. erased: the user was erased; nothing is stored."
        ),
    ]
    known: Annotated[
        bool, Field(description="Whether the model knows the item. If not, the event is kept for a model that does.")
    ]
    version: Annotated[str, Field(description="The version whose state was advanced.")]


@dataclass(slots=True)
class EventsResponse:
    results: Annotated[list[EventOut], Field(description="One result per event, in the order of the request.")]


@dataclass(slots=True)
class OutcomeOut:
    result: Annotated[
        Literal["accepted", "too_old", "erased"],
        Field(
            description="accepted: stored; one that was sent before still counts once. too_old: later than accepted, not stored. "
            "erased: the user was erased; nothing is stored."
        ),
    ]


@dataclass(slots=True)
class OutcomesResponse:
    results: Annotated[list[OutcomeOut], Field(description="One result per outcome, in the order of the request.")]


@dataclass(slots=True)
class SimilarItem(Item):
    similarity: float

    @classmethod
    def to(cls, item: ItemDescription, similarity: float) -> SimilarItem:
        return cls(*item, similarity)


@dataclass(slots=True)
class SimilarResponse:
    version: str
    item: Item
    items: list[SimilarItem]


@dataclass(slots=True)
class ItemsResponse:
    version: str
    items: list[Item]


@dataclass(slots=True)
class UserEvent:
    item_id: Annotated[ItemId | None, Field(description="Null for an item with a text id that the model does not know.")]
    title: str
    time: int


@dataclass(slots=True)
class UserEventsResponse:
    user_id: UserId
    count: Annotated[
        int, Field(description="All events of the user in the dataset and reported ones; only the latest are listed.")
    ]
    events: Annotated[list[UserEvent], Field(description="Oldest first.")]


@dataclass(slots=True)
class Remaining:
    what: str
    until: Annotated[str, Field(description="When it is gone, or what removes it.")]


@dataclass(slots=True)
class ErasureResponse:
    """The record of an erasure, and what it does not reach by itself."""

    user_id: UserId
    erased: Annotated[str, Field(description="When the user was erased (UTC); for a repeated request, the first time.")]
    remains: list[Remaining]


@dataclass(slots=True)
class ModelOut:
    version: str
    role: Annotated[Role, Field(description="canary: the new champion, while it serves a share of the users only.")]
    kind: str
    promotion: int
    items: int
    state_bytes: int

    @classmethod
    def of(cls, model: ServedModel, role: Role) -> ModelOut:
        return cls(
            version=model.version,
            role=role,
            kind=model.model.kind,
            promotion=model.number,
            items=len(model.catalogue),
            state_bytes=4 * model.model.state_size,
        )


@dataclass(slots=True)
class RefusedOut:
    version: str
    promotion: int
    reason: str
    when: str

    @classmethod
    def of(cls, refused: Refused) -> RefusedOut:
        return cls(refused.version, refused.promotion, refused.reason, refused.when)


@dataclass(slots=True)
class LogOut:
    """What this worker knows about the promotion log."""

    read: Annotated[str | None, Field(description="When the log was last read (UTC). Null if it never was.")]
    fault: Annotated[str | None, Field(description="Why the last look at the log and its versions failed. Null if it succeeded.")]

    @classmethod
    def of(cls, follower: ChampionFollower) -> LogOut:
        read = follower.log_read
        return cls(datetime.fromtimestamp(read, UTC).isoformat(timespec="seconds") if read else None, follower.fault)


@dataclass(slots=True)
class RolloutOut:
    """A rollout as this worker acts on it."""

    new: str
    old: str
    share: Annotated[float, Field(description="Share of the users that the new version serves now.")]
    stage: Annotated[int, Field(description="From 1.")]
    stages: list[float]
    since: Annotated[str, Field(description="When the stage begins or began (UTC).")]

    @classmethod
    def of(cls, underway: Underway, now: float) -> RolloutOut:
        rollout = underway.rollout
        since = datetime.fromtimestamp(rollout.since, UTC).isoformat(timespec="seconds")
        return cls(underway.version, rollout.old, rollout.share_at(now), rollout.stage + 1, [*rollout.stages], since)


@dataclass(slots=True)
class DataOut:
    """What the served versions were trained on."""

    user_id: Annotated[IdType, Field(description="Type of the ids of users.")]
    item_id: Annotated[IdType, Field(description="Type of the ids of items.")]
    repeats: Annotated[str, Field(description="keep: users come back to items, which are shown again. newest: they do not.")]
    attributes: Annotated[dict[str, str], Field(description="Attributes of items: category or number.")]
    nouns: Annotated[dict[str, str], Field(description="What the team calls users, items and events.")]

    @classmethod
    def of(cls, data: DataSchema) -> DataOut:
        return cls(data.ids.user_id, data.ids.item_id, data.repeats, dict(data.attributes), data.nouns.model_dump())


@dataclass(slots=True)
class ModelsResponse:
    """The versions that this worker serves or refuses."""

    model_name: str
    promotion: Annotated[int | None, Field(description="Number of the newest entry in the promotion log.")]
    log: LogOut
    data: Annotated[DataOut | None, Field(description="Null if no version is served.")]
    served: list[ModelOut]
    refused: Annotated[list[RefusedOut], Field(description="Versions that were refused, and why.")]
    rollout: Annotated[RolloutOut | None, Field(description="The rollout that is under way. Null if there is none.")] = None


@dataclass(slots=True)
class Home:
    """Where things are. The addresses are relative to this one."""

    model_name: str
    champion: Annotated[str | None, Field(description="The version that is served. Null if none is yet.")]
    documentation: str = "docs"
    description: str = "openapi.json"
    models: str = "v1/models"
    pages: str = "pages/"
    alive: str = "healthz"
    ready: str = "readyz"
    metrics: str = "metrics"


@dataclass(slots=True)
class Health:
    status: str


@dataclass(slots=True)
class Readiness:
    status: str
    detail: Annotated[str, Field(description="What needs attention although requests are answered. Empty if nothing does.")]


@dataclass(slots=True)
class ProblemError:
    where: str
    what: str


@dataclass(slots=True)
class Problem:
    """Problem details as defined by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: Annotated[str, Field(description="The request's id.")]
    errors: Annotated[list[ProblemError], Field(json_schema_extra={"default": []})] = field(default_factory=list)
