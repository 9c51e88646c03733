"""The two busy routes without the layers of the framework, which take half the time of a cached answer.

A request goes this way if it is plain: a small JSON body that arrived in one piece and that its schema accepts. Every other request
goes through FastAPI as it came, so there is one place that answers mistakes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.bodies import SMALL, parse
from serving.api.problems import HANDLERS

__all__ = ["DirectRoutes"]

JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
Endpoint = Callable[[Any, Request], Awaitable[Response]]


@dataclass(frozen=True)
class _Direct:
    route: APIRoute
    endpoint: Endpoint
    schema: type[BaseModel]


class DirectRoutes:
    """ASGI application that calls the functions of busy routes itself, and gives other requests to the framework."""

    def __init__(self, app: FastAPI, stack: ASGIApp, routes: Iterable[APIRoute]) -> None:
        """Take the application, its own layers, and the busy routes.

        Each has the method POST and no parameters. Its function takes the validated body and the request.
        """
        self._app, self._stack = app, stack
        self._limits = app.state.bodies.limits
        self._direct = {route.path: _Direct(route, route.endpoint, _schema_of(route)) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = self._direct.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if direct is None:
            await self._stack(scope, receive, send)
            return
        first = await _Received.first(receive)
        body = self._validated(direct.schema, scope, first.message)
        if body is None:
            await self._stack(scope, first.again, send)
            return
        scope.update(app=self._app, route=direct.route, endpoint=direct.endpoint, path_params={})
        request = Request(scope, first.again)
        try:
            response = await direct.endpoint(body, request)
        except Exception as error:
            kind = next((kind for kind in HANDLERS if isinstance(kind, type) and isinstance(error, kind)), Exception)
            response = await HANDLERS[kind](request, error)
            if kind is Exception:
                await response(scope, receive, send)
                raise  # a defect: the server logs it
        await response(scope, receive, send)

    def _validated(self, schema: type[BaseModel], scope: Scope, message: Message | None) -> BaseModel | None:
        """Return the body as its schema describes it, or None if the framework has to look at the request."""
        if message is None or message["type"] != "http.request" or message.get("more_body", False):
            return None
        content = message.get("body", b"")
        if len(content) > SMALL or _content_type(scope) not in JSON:
            return None
        try:
            return schema.model_validate(parse(content, self._limits))
        except (ValidationError, HTTPException):
            return None


def _schema_of(route: APIRoute) -> type[BaseModel]:
    assert route.body_field is not None, f"{route.path} takes no body"
    schema: type[BaseModel] = route.body_field.field_info.annotation  # type: ignore[assignment]
    return schema


def _content_type(scope: Scope) -> bytes:
    """Return the first header of the content type, as the framework does."""
    return next((bytes(value).lower() for name, value in scope["headers"] if name == b"content-type"), b"")


class _Received:
    """The first message of a request, which can be received again."""

    __slots__ = ("_error", "_receive", "_taken", "message")

    def __init__(self, receive: Receive, message: Message | None, error: HTTPException | None) -> None:
        self._receive, self.message, self._error, self._taken = receive, message, error, False

    @classmethod
    async def first(cls, receive: Receive) -> _Received:
        """Receive the first message. A refusal is raised when it is received again."""
        try:
            return cls(receive, await receive(), None)
        except HTTPException as error:
            return cls(receive, None, error)

    async def again(self) -> Message:
        """Return the first message, then those after it."""
        if self._taken:
            return await self._receive()
        self._taken = True
        if self._error is not None:
            raise self._error
        assert self.message is not None
        return self.message
