"""The routes for clients: recommendations, events, items, and what is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from configs.errors import RequestInvalidError, RequestRefusedError
from serving.api.bodies import BoundedRoute
from serving.api.ids import LONGEST, MARK, TeamIds
from serving.api.requests import EventsRequest, HistoryItem, RecommendationRequest
from serving.api.responses import (
    DataOut,
    EventOut,
    EventsResponse,
    Item,
    ItemsResponse,
    LogOut,
    ModelOut,
    ModelsResponse,
    RecommendationResponse,
    RefusedOut,
    RolloutOut,
    SimilarItem,
    SimilarResponse,
    UserEvent,
    UserEventsResponse,
    json_response,
    recommendation_response,
)
from serving.engine import Filters, HistoryEvent, NewEvent, RecommendJob, RequestTime
from serving.state import key_of
from serving.worker import ServingWorker

__all__ = [
    "UserInPath",
    "Worker",
    "busy_routes",
    "ids_of",
    "refuse_future_times",
    "refuse_more_than",
    "router",
    "utc_now",
    "worker_of",
]

router = APIRouter(route_class=BoundedRoute)


def worker_of(request: Request) -> ServingWorker:
    """Return the worker behind the application.

    The two busy routes call this themselves: a dependency would take a tenth of their time.
    """
    worker: ServingWorker = request.app.state.worker
    return worker


async def _worker(request: Request) -> ServingWorker:  # async, because FastAPI runs other functions in a thread
    return worker_of(request)


Worker = Annotated[ServingWorker, Depends(_worker)]
UserInPath = Annotated[str, Path(min_length=1, max_length=LONGEST, json_schema_extra={MARK: "user_id"})]
ItemInPath = Annotated[str, Path(min_length=1, max_length=LONGEST, json_schema_extra={MARK: "item_id"})]
Count = Annotated[int, Query(ge=1)]


@router.post("/v1/recommendations", response_model=RecommendationResponse, tags=["recommendations"], summary="Recommend items")
async def recommend(body: RecommendationRequest, request: Request) -> Response:
    """Recommend items for a user, a history, or both."""
    worker = worker_of(request)
    limits, ids = worker.settings.limits, ids_of(worker)
    refuse_more_than(limits.k, body.k, "k")
    refuse_more_than(limits.history, len(body.history or ()), "events of history")
    asked_for = RequestTime.of(body.time, utc_now())
    job = RecommendJob(
        assignment=worker.assign(body.user_id, body.version, asked_for.server_now),
        k=body.k,
        time=asked_for,
        user=None if body.user_id is None else ids.user(body.user_id, "body", "user_id"),
        user_id=body.user_id,
        history=_history(body.history or (), ids),
        filters=Filters(
            genres=tuple(body.genres),
            years=None if body.year_from is None and body.year_to is None else (body.year_from, body.year_to),
            exclude=tuple(ids.items(body.exclude, "body", "exclude")),
            attributes=_attributes(body.attributes),
        ),
        likes=tuple(body.likes),
        like_attributes=_attributes(body.like_attributes),
        explain=body.explain,
        request_id=request.state.request_id,
        named=body.version is not None,
        preview=body.preview,
    )
    answer = await worker.recommend(job)
    request.state.version, request.state.source = answer.version, answer.source
    return recommendation_response(answer, body.user_id, asked_for.at, job.assignment)


@router.post("/v1/events", response_model=EventsResponse, tags=["events"], summary="Report events")
async def events(body: EventsRequest, request: Request) -> Response:
    """Report events. The states of their users are advanced before the response is sent."""
    worker, now = worker_of(request), utc_now()
    limits, ids = worker.settings.limits, ids_of(worker)
    refuse_more_than(limits.events, len(body.events), "events")
    refuse_future_times("events", [event.time for event in body.events], now, limits.future_s)
    items = ids.items([event.item_id for event in body.events], "body", "events", then="item_id")
    reported = [
        NewEvent(
            ids.user(e.user_id, "body", "events", place, "user_id"),
            item,
            now if e.time is None else e.time,
            key_of(e.event_id, item, e.time),
            e.user_id,
        )
        for place, (e, item) in enumerate(zip(body.events, items, strict=True))
    ]
    done = await worker.advance(reported, now)
    request.state.version = done[0].version
    return json_response(EventsResponse([EventOut(each.label, each.known, each.version) for each in done]))


@router.get("/v1/items/{item_id:path}/similar", response_model=SimilarResponse, tags=["items"], summary="List similar items")
async def similar(item_id: ItemInPath, request: Request, worker: Worker, k: Count = 10) -> Response:
    """List the items whose vectors are most similar."""
    refuse_more_than(worker.settings.limits.k, k, "k")
    model = worker.engine.serving()
    index = model.catalogue.index_of(ids_of(worker).item_in_path(item_id))
    if index is None:
        raise RequestRefusedError(f"The model does not know the {model.catalogue.schema.nouns.item} {item_id}.")
    items, likeness = model.similar(index, k)
    request.state.version = model.version
    found = [
        SimilarItem.to(model.described[item], cosine) for item, cosine in zip(items.tolist(), likeness.tolist(), strict=True)
    ]
    return json_response(SimilarResponse(model.version, Item.of(model.described[index]), found))


@router.get("/v1/items", response_model=ItemsResponse, tags=["items"], summary="Find items")
async def items(query: Annotated[str, Query(min_length=1, max_length=100)], worker: Worker, limit: Count = 20) -> Response:
    """Find items whose title, or else whose id, contains the text, most popular first."""
    refuse_more_than(worker.settings.limits.k, limit, "limit")
    model = worker.engine.serving()
    found = await asyncio.to_thread(model.search, query, limit)
    return json_response(ItemsResponse(model.version, [Item.of(model.described[item]) for item in found]))


@router.get("/v1/onboarding", response_model=ItemsResponse, tags=["items"], summary="List items for a new user")
async def onboarding(worker: Worker, count: Count = 12) -> Response:
    """List well-known items that differ, so that a new user can say which ones they know and like."""
    refuse_more_than(worker.settings.limits.k, count, "count")
    model, found = worker.engine.onboarding(count, utc_now())
    return json_response(ItemsResponse(model.version, [Item.of(model.described[item]) for item in found.tolist()]))


@router.get(
    "/v1/users/{user_id:path}/events", response_model=UserEventsResponse, tags=["users"], summary="List the events of a user"
)
async def user_events(user_id: UserInPath, worker: Worker) -> Response:
    """List the known events of a user: those in the dataset and the reported ones, each once."""
    ids = ids_of(worker)
    model, log = worker.engine.log_of(ids.user_in_path(user_id))
    events = zip(log.items.tolist(), log.times.tolist(), strict=True)
    listed = [UserEvent(model.id_of(item), model.title_of(item), at) for item, at in events]
    return json_response(UserEventsResponse(ids.shown_user(user_id), log.count, listed))


@router.get("/v1/models", response_model=ModelsResponse, tags=["models"], summary="List the served versions")
async def models(worker: Worker) -> Response:
    """List the versions that this worker serves, and those that it refused."""
    follower, served = worker.follower, worker.engine.models
    return json_response(
        ModelsResponse(
            model_name=worker.settings.model_name,
            promotion=follower.promotion.number if follower.promotion else None,
            log=LogOut.of(follower),
            data=DataOut.of(worker.schema()) if served.by_role() else None,
            served=[ModelOut.of(model, role) for role, model in served.by_role()],
            refused=[RefusedOut.of(refused) for refused in list(follower.refused.values())],  # a thread changes it
            rollout=RolloutOut.of(follower.underway, time.time()) if follower.underway is not None else None,
        )
    )


def busy_routes() -> list[APIRoute]:
    """Return the routes that every page of a client asks, for which the framework's share of the time counts."""
    return [route for route in router.routes if isinstance(route, APIRoute) and route.endpoint in (recommend, events)]


def ids_of(worker: ServingWorker) -> TeamIds:
    """Return the ids of the served versions, all of which have the same types."""
    return TeamIds(worker.schema())


def _history(events: Sequence[HistoryItem], ids: TeamIds) -> tuple[HistoryEvent, ...]:
    if not events:
        return ()
    items = ids.items([event.item_id for event in events], "body", "history", then="item_id")
    return tuple([HistoryEvent(item, event.time) for item, event in zip(items, events, strict=True)])


def _attributes(given: dict[str, list[str | float | None]]) -> tuple[tuple[str, tuple[str | float | None, ...]], ...]:
    return tuple([(name, tuple(values)) for name, values in given.items()]) if given else ()


def refuse_future_times(what: str, times: Sequence[int | None], now: int, future_s: int) -> None:
    """Raise RequestInvalidError if one of the times of a list is more than `future_s` seconds after `now`."""
    for number, time_ in enumerate(times):
        if time_ is not None and time_ > now + future_s:
            raise RequestInvalidError(
                f"{what}.{number}.time is {time_}, {time_ - now} s ahead of this server's clock; at most {future_s} s are "
                "allowed. Times are UTC seconds, not milliseconds."
            )


def refuse_more_than(most: int, given: int, what: str) -> None:
    if given > most:
        raise RequestInvalidError(f"{given:,} {what}: at most {most:,} are allowed.")


def utc_now() -> int:
    """Return the current time in UTC seconds."""
    return int(time.time())
