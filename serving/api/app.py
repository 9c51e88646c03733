"""The HTTP API."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.openapi.utils import get_openapi
from pydantic_core import to_json
from starlette.responses import Response

from configs.errors import RequestRefusedError
from configs.serving import LimitSettings, ServingSettings
from serving.api.middleware import Gateway, RequestLog
from serving.api.problems import HANDLERS, problem
from serving.api.schemas import (
    LARGEST,
    EventsRequest,
    EventsResponse,
    Health,
    ItemsResponse,
    ModelsResponse,
    Problem,
    RecommendationRequest,
    RecommendationResponse,
    SimilarResponse,
    UserEventsResponse,
)
from serving.engine import EventJob, HistoryEvent, NewEvent, RecommendJob, ServedModel
from serving.state import key_of
from serving.worker import Service, now

__all__ = ["SETTINGS", "create_app", "from_environment"]

SETTINGS = "RECSYS_SERVING"  # environment variable that holds a worker's settings as JSON
SWITCH_S = 0.0005  # GIL switch interval: a thread that loads a version must yield to the event loop quickly
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        400: "The body is not JSON",
        401: "The header X-API-Key is missing or wrong",
        404: "The film, genre or version does not exist",
        413: "The body is too large",
        422: "The request is invalid",
        429: "Too many requests",
        503: "No model is served yet, or too many requests are waiting",
    }.items()
}
MovieId = Annotated[int, Path(ge=0, le=LARGEST)]
K = Annotated[int, Query(ge=1)]


def create_app(settings: ServingSettings) -> Any:
    """Create the ASGI application of one worker.

    It starts serving once its lifespan has started and a champion is loaded.
    """
    sys.setswitchinterval(SWITCH_S)
    service = Service(settings)
    log = RequestLog() if settings.log_requests else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        service.batcher.start()
        try:
            yield
        finally:
            service.batcher.close()
            await asyncio.to_thread(service.close)
            if log is not None:
                log.close()

    app = FastAPI(
        title="movielens-recsys",
        version="1",
        description="Recommendations from the registry's champion, up to date with each user's latest event.",
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        responses=RESPONSES,
    )
    _add_routes(app, service)
    _add_watching(app, service)
    app.openapi = lambda: _described(app, settings.limits)  # type: ignore[method-assign]
    gateway = Gateway(app, limits=settings.limits, metrics=service.metrics, log=log)
    gateway.service, gateway.openapi = service, app.openapi  # type: ignore[attr-defined]
    return gateway


def from_environment() -> Any:
    """Create the application from the environment. Uvicorn calls this in each worker."""
    configure_logging()
    return create_app(ServingSettings.model_validate_json(os.environ[SETTINGS]))


def configure_logging() -> None:
    """Write every log line to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _add_routes(app: FastAPI, service: Service) -> None:
    limits = service.settings.limits

    @app.post("/v1/recommendations", response_model=RecommendationResponse)
    async def recommend(body: RecommendationRequest, request: Request) -> Response:
        """Recommend films for a user, a history, or both."""
        _refuse_more_than(limits.k, body.k, "k")
        _refuse_more_than(limits.history, len(body.history or ()), "events of history")
        asked = now()
        at = asked if body.time is None else body.time
        job = RecommendJob(
            assignment=service.assign(body.user_id, body.version, asked),
            k=body.k,
            now=at,
            timed=body.time is not None,
            asked=asked,
            user=body.user_id,
            history=tuple([HistoryEvent(event.movie_id, event.time) for event in body.history]) if body.history else None,
            genres=tuple(body.genres),
            years=None if body.year_from is None and body.year_to is None else (body.year_from, body.year_to),
            exclude=tuple(body.exclude),
            likes=tuple(body.likes),
            explain=body.explain,
            request_id=request.state.request_id,
            named=body.version is not None,
        )
        answer = await service.recommend(job)
        request.state.version, request.state.source = answer.version, answer.source
        tested = answer.version == job.assignment.version
        return _json(
            {
                "version": answer.version,
                "user_id": body.user_id,
                "time": at,
                "source": answer.source,
                "detail": answer.detail,
                "events": answer.events,
                "cached": answer.cached,
                "experiment": job.assignment.experiment if tested or job.assignment.version == "champion" else None,
                "arm": job.assignment.arm if tested or job.assignment.version == "champion" else None,
                "items": answer.items,
            }
        )

    @app.post("/v1/events", response_model=EventsResponse)
    async def events(body: EventsRequest, request: Request) -> Response:
        """Report events. The states of their users are advanced before the response is sent."""
        _refuse_more_than(limits.events, len(body.events), "events")
        at = now()
        for number, event in enumerate(body.events):
            if event.time is not None and event.time > at + limits.future_s:
                raise RequestInvalid(
                    f"events.{number}.time is {event.time}, {event.time - at} s ahead of this server's clock; at most "
                    f"{limits.future_s} s are allowed. Times are UTC seconds, not milliseconds."
                )
        given = tuple(
            [
                NewEvent(e.user_id, e.movie_id, at if e.time is None else e.time, key_of(e.event_id, e.movie_id, e.time))
                for e in body.events
            ]
        )
        done = await service.advance(EventJob(given, {e.user: service.assign(e.user, None, at) for e in given}))
        request.state.version = done.versions[0]
        results = [
            {"outcome": outcome.name.lower(), "known": known, "version": version}
            for outcome, known, version in zip(done.outcomes, done.known, done.versions, strict=True)
        ]
        return _json({"results": results})

    @app.get("/v1/items/{movie_id}/similar", response_model=SimilarResponse)
    async def similar(movie_id: MovieId, request: Request, k: K = 10) -> Response:
        """List the films whose vectors are most similar."""
        _refuse_more_than(limits.k, k, "k")
        model = service.engine.serving()
        index = model.catalogue.index_of(movie_id)
        if index is None:
            raise RequestRefusedError(f"The model does not know the film {movie_id}.")
        items, likeness = model.similar(index, k)
        request.state.version = model.version
        found = [
            {**_item(model, item), "similarity": value} for item, value in zip(items.tolist(), likeness.tolist(), strict=True)
        ]
        return _json({"version": model.version, "item": _item(model, index), "items": found})

    @app.get("/v1/items", response_model=ItemsResponse)
    async def items(query: Annotated[str, Query(min_length=1, max_length=100)], limit: K = 20) -> Response:
        """Find films whose title contains the text, most popular first."""
        _refuse_more_than(limits.k, limit, "limit")
        model = service.engine.serving()
        found = await asyncio.to_thread(model.search, query, limit)
        return _json({"version": model.version, "items": [_item(model, item) for item in found]})

    @app.get("/v1/onboarding", response_model=ItemsResponse)
    async def onboarding(count: K = 12) -> Response:
        """List well-known films of different genres, so that a new user can say which ones they know and like."""
        _refuse_more_than(limits.k, count, "count")
        model, found = service.engine.onboarding(count, now())
        return _json({"version": model.version, "items": [_item(model, item) for item in found.tolist()]})

    @app.get("/v1/users/{user_id}/events", response_model=UserEventsResponse)
    async def user_events(user_id: Annotated[int, Path(ge=0, le=LARGEST)]) -> Response:
        """List the stored events of a user."""
        model, kept = service.engine.log_of(user_id)
        listed = [
            {"movie_id": item, "title": _title(model, item), "time": at}
            for item, at in zip(kept.items.tolist(), kept.times.tolist(), strict=True)
        ]
        return _json({"user_id": user_id, "count": kept.count, "events": listed})


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=ModelsResponse)
    async def models() -> Response:
        """List the versions that this worker serves, and those that it refused."""
        follower, current = service.follower, service.engine.models
        served = [] if current.champion is None else [_served(current.champion, "champion")]
        served += [_served(model, "beside") for model in current.others.values()]
        return _json(
            {
                "model_name": service.settings.model_name,
                "promotion": follower.promotion.number if follower.promotion else None,
                "served": served,
                "refused": list(follower.refused.values()),
            }
        )

    @app.get("/healthz", response_model=Health)
    async def healthz() -> Response:
        """Report that the process is alive."""
        return _json({"status": "alive"})

    @app.get("/readyz", response_model=Health)
    async def readyz(request: Request) -> Response:
        """Report whether a model is loaded, checked and warm."""
        if service.engine.models.champion is None:
            return problem(503, "No model is served yet.", request.state.request_id, {"Retry-After": "1"})
        return _json({"status": "ready"})

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
    )
    async def metrics() -> Response:
        """Return the metrics for Prometheus."""
        content = await asyncio.to_thread(service.metrics.render)
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


class RequestInvalid(Exception):
    """A request that matches its schema but exceeds a configured limit."""


async def _invalid(request: Request, error: Exception) -> Response:
    return problem(422, str(error), request.state.request_id)


HANDLERS[RequestInvalid] = _invalid


def _refuse_more_than(most: int, given: int, what: str) -> None:
    if given > most:
        raise RequestInvalid(f"{given:,} {what}: at most {most:,} are allowed.")


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")


def _item(model: ServedModel, index: int) -> dict[str, Any]:
    return model.films[index]._asdict()


def _title(model: ServedModel, movie_id: int) -> str:
    index = model.catalogue.index_of(movie_id)
    return "" if index is None else model.catalogue.titles[index]


def _served(model: ServedModel, role: str) -> dict[str, Any]:
    return {
        "version": model.version,
        "role": role,
        "kind": model.model.kind,
        "promotion": model.number,
        "items": len(model.catalogue),
        "state_bytes": 4 * model.model.state_size,
    }


def _described(app: FastAPI, limits: LimitSettings) -> dict[str, Any]:
    """Return the OpenAPI document, with the limits from the settings."""
    if app.openapi_schema:
        return app.openapi_schema
    document: dict[str, Any] = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    asked = schemas["RecommendationRequest"]["properties"]
    asked["k"]["maximum"] = limits.k
    asked["history"]["anyOf"][0]["maxItems"] = limits.history
    schemas["EventsRequest"]["properties"]["events"]["maxItems"] = limits.events
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in ("k", "limit", "count"):
                    parameter["schema"]["maximum"] = limits.k
            for code, response in operation["responses"].items():
                if int(code) >= 400:  # FastAPI also lists its default content type
                    response["content"] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if limits.api_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
        document["security"] = [{"key": []}]
    app.openapi_schema = document
    return document


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in ("reason", "version", "promotion") if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
