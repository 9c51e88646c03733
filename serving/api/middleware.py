"""Handles every request before and after its route: id, size, key, rate, log line, metrics. Plain ASGI, for speed."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, format_span_id, format_trace_id
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.serving import ServingSettings
from infra.tracing import SpanKind, current_span, remote_caller, span, tracing_is_on
from serving.access import Clients, Keys, scope_of
from serving.api.bodies import Bodies, IncomingBody
from serving.api.logs import RequestLog
from serving.api.problems import problem
from serving.metrics import Metrics

__all__ = ["RequestMiddleware"]

PROBES = ("/healthz", "/readyz")  # for monitoring: no API key, rate limit or log line
METRICS = "/metrics"  # without a log line; others than this machine need a key
BROWSED = ("/", "/docs", "/openapi.json", "/pages", METRICS)  # for people: a browser sends the key as a password, and asks for it
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
ASK = {"WWW-Authenticate": 'Basic realm="Leave the user name empty. The password is an API key", charset="UTF-8"'}
LENGTH = re.compile(rb"[0-9]{1,18}")


class RequestMiddleware:
    """The outermost layer of the application, so that it also sees the responses to defects."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServingSettings,
        *,
        bodies: Bodies,
        metrics: Metrics,
        log: RequestLog | None,
        keys: Callable[[], Keys] | None = None,
    ) -> None:
        """Wrap an application. `keys` returns the keys that are valid now, by default those of `limits.api_keys`."""
        self._app, self._bodies, self._metrics, self._log = app, bodies, metrics, log
        self._limits, self._clients = settings.limits, Clients(settings, keys)
        self._open = PROBES if settings.reachable else (*PROBES, METRICS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if tracing_is_on() and scope["path"] not in (*PROBES, METRICS):
            with span(scope["method"], kind=SpanKind.SERVER, context=remote_caller(headers) or Context()) as traced:
                await self._answer(scope, receive, send, headers, traced)
        else:
            await self._answer(scope, receive, send, headers, INVALID_SPAN)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], traced: Span) -> None:
        began = time.perf_counter()
        given, ids = headers.get(b"x-request-id", b""), traced.get_span_context()
        if GIVEN_ID.fullmatch(given):
            request_id = given.decode()
        else:  # the id of the span, so that one id finds the log line, the exposure and the trace
            request_id = format_span_id(ids.span_id) if ids.is_valid else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        body = IncomingBody(self._bodies, receive)
        try:
            refusal = self._refusal(scope, headers, request_id)
            if refusal is not None:
                await refusal(scope, receive, answered)
            else:
                await self._app(scope, body.receive, answered)
        finally:
            body.close()
            self._report(scope, request_id, status, time.perf_counter() - began)
            if ids.is_valid:
                _describe(traced, scope, status)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes], request_id: str) -> Response | None:
        limit = self._limits.body_bytes
        length = headers.get(b"content-length", b"0")
        if LENGTH.fullmatch(length) and int(length) > limit:
            return problem(413, f"The body has {int(length):,} bytes; at most {limit:,} are allowed.", request_id)
        if scope["path"] in self._open:
            return None
        key = headers.get(b"x-api-key", b"")
        browsed = _is_browsed(scope)
        if browsed and not key:
            key = _password(headers)
        found = self._clients.refusal(scope, key, scope_of(scope["method"], scope["path"]))
        if found is None:
            return None
        if found.status == 429:
            return problem(429, found.detail, request_id, {"Retry-After": str(int(found.wait_s) + 1)})
        if found.status == 403:
            return problem(403, found.detail, request_id)
        if browsed:
            return problem(401, f"{found.detail}, or as the password that the browser asks for.", request_id, ASK)
        return problem(401, f"{found.detail}.", request_id, {"WWW-Authenticate": "ApiKey"})

    def _report(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Update the metrics, and write the log line."""
        route = getattr(scope.get("route"), "path_format", "other")
        state = scope["state"]
        metrics = self._metrics
        metrics.labelled(metrics.requests, route, str(status)).inc()
        metrics.labelled(metrics.seconds, route, metrics.role_of(state.get("version", ""))).observe(seconds)
        if self._log is not None and scope["path"] not in (*PROBES, METRICS):
            line = {
                "time": round(time.time(), 3),
                "request": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
            }
            if (ids := current_span()) is not None:
                line["trace"] = format_trace_id(ids.trace_id)
            self._log.write(line | {name: state[name] for name in ("client", "version", "source") if name in state})


def _describe(traced: Span, scope: Scope, status: int) -> None:
    """Name the request by its route, as the path holds the ids of users and items."""
    route = getattr(scope.get("route"), "path_format", None)
    state = scope["state"]
    known = {"http.request.method": scope["method"], "http.response.status_code": status}
    known |= {f"recsys.{name}": state[name] for name in ("request_id", "version", "source") if name in state}
    if route is not None:
        traced.update_name(f"{scope['method']} {route}")
        known["http.route"] = route
    traced.set_attributes(known)
    if status >= 500:
        traced.set_status(Status(StatusCode.ERROR))


def _is_browsed(scope: Scope) -> bool:
    """Whether a person may open the address in a browser: it only shows something."""
    path: str = scope["path"]
    return scope["method"] == "GET" and (path in BROWSED or path.startswith(("/docs/", "/pages/")))


def _password(headers: dict[bytes, bytes]) -> bytes:
    """Return the password of a browser, or nothing."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
