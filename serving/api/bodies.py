"""Bounds on what a request body costs, whatever it contains.

The parsed form of a body can take forty times its bytes. Before a body is parsed, the commas and brackets in it are counted: they
bound the number of values. Before its values are validated, the lengths of its lists are checked. Large bodies take turns, so the
parsed forms of a few are in memory at once, and the bytes of those that wait are limited too.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.routing import APIRoute
from prometheus_client import Gauge
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive

from configs.serving import LimitSettings
from serving.api.problems import RETRY_SOON
from serving.api.requests import EXCLUDED

__all__ = ["OVERDUE", "Bodies", "BoundedRoute", "IncomingBody", "Marks"]

OVERDUE = "overdue"  # in the state of a request: the server closed its connection, because the body was late
SMALL = 4096  # bytes; smaller bodies are not counted, because the number of connections bounds them
AT_ONCE = 256 << 10  # bytes of bodies that are parsed and answered at the same time
SPARE = 1000  # brackets and commas beyond those that lists of events need


class Bodies:
    """The request bodies that a worker holds."""

    def __init__(self, limits: LimitSettings, gauge: Gauge) -> None:
        self.limits, self._gauge = limits, gauge
        self.held = 0  # bytes
        self._working = 0  # bytes of the large bodies whose turn it is
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def hold(self, size: int) -> None:
        """Count bytes of a body, or discount them if `size` is negative."""
        self.held += size
        self._gauge.set(self.held)

    async def turn(self, size: int) -> None:
        """Wait until a large body of `size` bytes may be parsed. Each turn must be ended by `end_turn`."""
        if self._waiting or (self._working and self._working + size > AT_ONCE):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.end_turn(size)
                raise
        else:
            self._working += size

    def end_turn(self, size: int) -> None:
        self._working -= size
        while self._waiting:
            size, turn = self._waiting[0]
            if self._working and self._working + size > AT_ONCE:
                return
            self._waiting.popleft()
            if not turn.done():  # the client is still there
                self._working += size
                turn.set_result(None)


class IncomingBody:
    """The body of one request while it arrives. Call `close` after the response."""

    __slots__ = ("_bodies", "_receive", "_size")

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies, self._receive, self._size = bodies, receive, 0

    async def receive(self) -> Message:
        """Return the next ASGI message.

        Raises:
            HTTPException: If the body is too large, or if the worker holds too many bytes of bodies.
        """
        message = await self._receive()
        more = len(message.get("body", b""))
        before, self._size = self._size, self._size + more
        limits = self._bodies.limits
        if self._size > SMALL:
            self._bodies.hold(more if before > SMALL else self._size)
            if self._bodies.held > limits.held_mb << 20:
                # Not 503: a proxy would take this replica for a failed one, and send it nobody's requests.
                raise HTTPException(429, "Too many large bodies are waiting; try again in a moment.", RETRY_SOON)
        if self._size > limits.body_bytes:
            raise HTTPException(413, f"The body is larger than the allowed {limits.body_bytes:,} bytes.")
        return message

    def close(self) -> None:
        if self._size > SMALL:
            self._bodies.hold(-self._size)


class BoundedRoute(APIRoute):
    """A route whose body costs a bounded amount of time and memory."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def bounded(request: Request) -> Response:
            asked = _BoundedRequest(request.scope, request.receive)
            try:
                size = len(await asked.body())
            except ClientDisconnect:
                if request.scope["state"].get(OVERDUE):
                    raise HTTPException(408, "The body did not arrive in time.") from None
                raise HTTPException(400, "The client closed the connection before it had sent the whole body.") from None
            if size <= SMALL:
                return await handler(asked)
            bodies: Bodies = request.app.state.bodies
            await bodies.turn(size)
            try:
                return await handler(asked)
            finally:
                bodies.end_turn(size)

        return bounded


class _BoundedRequest(Request):
    """Parses its body within bounds."""

    async def json(self) -> Any:
        return parse(await self.body(), self.app.state.bodies.limits)


class Marks(NamedTuple):
    """Numbers of opening brackets and of commas in a body. Together they bound the number of values in it."""

    brackets: int
    commas: int

    @classmethod
    def of(cls, body: bytes) -> Marks:
        return cls(body.count(b"{") + body.count(b"["), body.count(b","))

    @classmethod
    def allowed(cls, limits: LimitSettings) -> Marks:
        """Return the most that a body may have.

        An event of a history needs one bracket and two commas, an event to store one and four, and an outcome one and seven. The rest is
        for outcomes, and for brackets and commas inside of texts, such as ids of events.
        """
        rest = 5 * limits.events + SPARE
        return cls(limits.history + limits.events + rest, 2 * limits.history + 4 * limits.events + EXCLUDED + rest)


def parse(body: bytes, limits: LimitSettings) -> Any:
    """Return the values of a JSON body.

    Raises:
        HTTPException: If the body is not JSON, or holds more values than any valid request.
    """
    if len(body) > SMALL:
        for mark, found, allowed in zip(Marks._fields, Marks.of(body), Marks.allowed(limits), strict=True):
            if found > allowed:
                raise HTTPException(422, f"The body has {found:,} {mark}; a valid request has at most {allowed:,}.")
    try:
        content = from_json(body.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        said = str(error).replace("EOF while parsing", "it ends in the middle of")
        raise HTTPException(400, f"The body is not valid JSON: {said}.") from error
    if isinstance(content, dict):
        for name, most in (("history", limits.history), ("events", limits.events), ("outcomes", limits.events)):
            listed = content.get(name)
            if isinstance(listed, list) and len(listed) > most:
                raise HTTPException(422, f"{name} has {len(listed):,} entries; at most {most:,} are allowed.")
    return content
