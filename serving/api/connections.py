"""Bounds on the connections of a worker: their number, and the time and bytes that a request may take to arrive.

Uvicorn bounds none of these. A client that sends half a request, or nothing, would keep its connection for ever.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from configs.serving import LimitSettings
from serving.api.bodies import OVERDUE
from serving.api.problems import RETRY_SOON, problem
from serving.metrics import Metrics
from serving.stopping import DRAINED

__all__ = ["BoundedProtocol", "Connections"]

SWEEP_S = 0.5
PIECE = 16 << 10  # bytes that are parsed before the bounds are checked
PIPELINED = 8  # requests that one connection may send ahead of the answers


class Connections:
    """The connections of a worker. Looks for those that are late, twice a second after `start`: a timer per request costs more."""

    def __init__(self, limits: LimitSettings, metrics: Metrics, drain_s: float = 0.0) -> None:
        self.limits, self.metrics, self.drain_s = limits, metrics, drain_s
        self.draining = False  # the server stops soon: each response closes its connection
        self.all: dict[BoundedProtocol, None] = {}
        self.idle: dict[BoundedProtocol, None] = {}  # without a request in progress, the longest idle first
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def drain(self) -> None:
        self.draining = True

    def admit(self, connection: BoundedProtocol) -> bool:
        """Add a connection. If there are too many, the longest idle one is closed. Return False if none is idle."""
        if len(self.all) >= self.limits.connections:
            if not self.idle:
                return False
            next(iter(self.idle)).give_way()
        self.all[connection] = self.idle[connection] = None
        return True

    def remove(self, connection: BoundedProtocol) -> None:
        self.all.pop(connection, None)
        self.idle.pop(connection, None)

    def _sweep(self) -> None:
        self.start()
        self.metrics.connections.set(len(self.all))
        now = asyncio.get_running_loop().time()
        for connection in list(self.all):
            connection.check(now)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Requests have a deadline and a maximum size, and the client has a deadline to read each response."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all: Connections = app_state[DRAINED]
        self._limits = self._all.limits
        self._refused = False  # what the client still sends is ignored
        self._asked = False  # the client has sent something
        self._in_headers = self._in_body = False
        self._received = self._body = 0  # bytes of the request that is arriving, and of its body
        self._due_since: float | None = None  # the loop's time since which a request is arriving, or was expected
        self._unread_since: float | None = None  # the loop's time since which a response waits for the client to read it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._due_since = self.loop.time()
        if not self._all.admit(self):
            self._refuse(503, "full", "Too many connections are open; try again in a moment.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._asked = True
        if self._due_since is None:
            self._due_since = self.loop.time()
        if len(data) <= PIECE:
            self._parse(data)
        else:
            for start in range(0, len(data), PIECE):
                self._parse(data[start : start + PIECE])

    def _parse(self, data: bytes) -> None:
        if self._refused or self.parser is None:
            return
        self._received += len(data)
        super().data_received(data)
        if self._due_since is None or self._refused:
            return
        if self._in_headers:
            if self._received > self._limits.head_bytes:
                detail = f"The first line and the headers of a request may have {self._limits.head_bytes:,} bytes."
                self._refuse(431, "headers", detail)
        elif self._received > 2 * (self._limits.head_bytes + self._body):  # tiny chunks, or endless trailers
            self._refuse(400, "chunks", "The body is sent in chunks that are too small.")

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            raise ValueError("too many requests in advance")  # the parser stops, and `send_400_response` is called
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:  # trailers are ignored
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers, self._in_body = False, True
        self._all.idle.pop(self, None)
        super().on_headers_complete()
        if self._all.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._due_since = False, None
        self._received = self._body = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and self in self._all.all and not self.transport.is_closing():
            self._all.idle[self] = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid", "This is not a valid HTTP request.")

    def give_way(self) -> None:
        """Close this connection, which is idle, so that another client can connect."""
        self._all.remove(self)
        self._refused = True
        self._all.metrics.closed.labels("idle").inc()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for a client that may never read its response
        else:
            self.transport.close()

    def check(self, now: float) -> None:
        """Close the connection if its client is late."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            if self._unread_since is None:
                self._unread_since = now
            elif now - self._unread_since > self._limits.receive_s:
                self._all.metrics.closed.labels("unread").inc()
                self.transport.abort()
            return
        self._unread_since = None
        if self._due_since is None or now - self._due_since <= self._limits.receive_s or self._refused:
            return
        if not self._asked:
            self._refused = True
            self._all.metrics.closed.labels("silent").inc()
            self.transport.close()
            return
        self._refuse(408, "late", f"The request did not arrive within {self._limits.receive_s:g} s.")

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        """Answer the request that is arriving with a problem, and close the connection."""
        self._refused = True
        self._all.metrics.closed.labels(reason).inc()
        arriving = self.cycle if self._in_body else None
        if arriving is None and self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # an earlier request is answered first, and uvicorn then closes the connection
            return
        if arriving is None:
            self.transport.write(_as_bytes(status, detail, secrets.token_hex(8)))
        elif not (self.pipeline or arriving.response_started):
            state = arriving.scope["state"]
            state[OVERDUE] = status == 408
            self.transport.write(_as_bytes(status, detail, state.get("request_id") or secrets.token_hex(8)))
        self.transport.close()


def _as_bytes(status: int, detail: str, request_id: str) -> bytes:
    """Return a problem response as it is sent."""
    headers = {"Connection": "close", "X-Request-Id": request_id} | (RETRY_SOON if status == 503 else {})
    response = problem(status, detail, request_id, headers)
    lines = b"".join([b"%b: %b\r\n" % header for header in response.raw_headers])
    return b"%b%b\r\n%b" % (STATUS_LINE[status], lines, bytes(response.body))
