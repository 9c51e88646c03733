"""The routes for clients: recommendations, events, films, and what is served."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from configs.errors import RequestInvalidError, RequestRefusedError
from serving.api.bodies import BoundedRoute
from serving.api.requests import LARGEST, EventsRequest, RecommendationRequest
from serving.api.responses import (
    EventOut,
    EventsResponse,
    Item,
    ItemsResponse,
    LogOut,
    ModelOut,
    ModelsResponse,
    RecommendationResponse,
    RefusedOut,
    SimilarItem,
    SimilarResponse,
    UserEvent,
    UserEventsResponse,
    json_response,
)
from serving.engine import Filters, HistoryEvent, NewEvent, RecommendJob, RequestTime
from serving.state import key_of
from serving.worker import ServingWorker

__all__ = ["Worker", "router"]

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
Id = Annotated[int, Path(ge=0, le=LARGEST)]
Count = Annotated[int, Query(ge=1)]


@router.post("/v1/recommendations", response_model=RecommendationResponse)
async def recommend(body: RecommendationRequest, request: Request) -> Response:
    """Recommend films for a user, a history, or both."""
    worker = worker_of(request)
    limits = worker.settings.limits
    _refuse_more_than(limits.k, body.k, "k")
    _refuse_more_than(limits.history, len(body.history or ()), "events of history")
    asked_for = RequestTime.of(body.time, _utc_now())
    job = RecommendJob(
        assignment=worker.assign(body.user_id, body.version, asked_for.server_now),
        k=body.k,
        time=asked_for,
        user=body.user_id,
        history=tuple([HistoryEvent(event.item_id, event.time) for event in body.history or ()]),
        filters=Filters(
            genres=tuple(body.genres),
            years=None if body.year_from is None and body.year_to is None else (body.year_from, body.year_to),
            exclude=tuple(body.exclude),
        ),
        likes=tuple(body.likes),
        explain=body.explain,
        request_id=request.state.request_id,
        named=body.version is not None,
        preview=body.preview,
    )
    answer = await worker.recommend(job)
    request.state.version, request.state.source = answer.version, answer.source
    return json_response(RecommendationResponse.of(answer, body.user_id, asked_for.at, job.assignment))


@router.post("/v1/events", response_model=EventsResponse)
async def events(body: EventsRequest, request: Request) -> Response:
    """Report events. The states of their users are advanced before the response is sent."""
    worker, now = worker_of(request), _utc_now()
    limits = worker.settings.limits
    _refuse_more_than(limits.events, len(body.events), "events")
    for number, event in enumerate(body.events):
        if event.time is not None and event.time > now + limits.future_s:
            raise RequestInvalidError(
                f"events.{number}.time is {event.time}, {event.time - now} s ahead of this server's clock; at most "
                f"{limits.future_s} s are allowed. Times are UTC seconds, not milliseconds."
            )
    reported = [
        NewEvent(e.user_id, e.item_id, now if e.time is None else e.time, key_of(e.event_id, e.item_id, e.time))
        for e in body.events
    ]
    done = await worker.advance(reported, now)
    request.state.version = done[0].version
    return json_response(EventsResponse([EventOut(each.label, each.known, each.version) for each in done]))


@router.get("/v1/items/{item_id}/similar", response_model=SimilarResponse)
async def similar(item_id: Id, request: Request, worker: Worker, k: Count = 10) -> Response:
    """List the films whose vectors are most similar."""
    _refuse_more_than(worker.settings.limits.k, k, "k")
    model = worker.engine.serving()
    index = model.catalogue.index_of(item_id)
    if index is None:
        raise RequestRefusedError(f"The model does not know the film {item_id}.")
    items, likeness = model.similar(index, k)
    request.state.version = model.version
    found = [SimilarItem.to(model.films[item], cosine) for item, cosine in zip(items.tolist(), likeness.tolist(), strict=True)]
    return json_response(SimilarResponse(model.version, Item.of(model.films[index]), found))


@router.get("/v1/items", response_model=ItemsResponse)
async def items(query: Annotated[str, Query(min_length=1, max_length=100)], worker: Worker, limit: Count = 20) -> Response:
    """Find films whose title contains the text, most popular first."""
    _refuse_more_than(worker.settings.limits.k, limit, "limit")
    model = worker.engine.serving()
    found = await asyncio.to_thread(model.search, query, limit)
    return json_response(ItemsResponse(model.version, [Item.of(model.films[item]) for item in found]))


@router.get("/v1/onboarding", response_model=ItemsResponse)
async def onboarding(worker: Worker, count: Count = 12) -> Response:
    """List well-known films of different genres, so that a new user can say which ones they know and like."""
    _refuse_more_than(worker.settings.limits.k, count, "count")
    model, found = worker.engine.onboarding(count, _utc_now())
    return json_response(ItemsResponse(model.version, [Item.of(model.films[item]) for item in found.tolist()]))


@router.get("/v1/users/{user_id}/events", response_model=UserEventsResponse)
async def user_events(user_id: Id, worker: Worker) -> Response:
    """List the stored events of a user."""
    model, log = worker.engine.log_of(user_id)
    listed = [UserEvent(item, model.title_of(item), at) for item, at in zip(log.items.tolist(), log.times.tolist(), strict=True)]
    return json_response(UserEventsResponse(user_id, log.count, listed))


@router.get("/v1/models", response_model=ModelsResponse)
async def models(worker: Worker) -> Response:
    """List the versions that this worker serves, and those that it refused."""
    follower, served = worker.follower, worker.engine.models
    return json_response(
        ModelsResponse(
            model_name=worker.settings.model_name,
            promotion=follower.promotion.number if follower.promotion else None,
            log=LogOut.of(follower),
            served=[ModelOut.of(model, role) for role, model in served.by_role()],
            refused=[RefusedOut.of(refused) for refused in list(follower.refused.values())],  # a thread changes it
        )
    )


def _refuse_more_than(most: int, given: int, what: str) -> None:
    if given > most:
        raise RequestInvalidError(f"{given:,} {what}: at most {most:,} are allowed.")


def _utc_now() -> int:
    """Return the current time in UTC seconds."""
    return int(time.time())
