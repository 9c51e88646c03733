"""Handles every request before and after its route: id, size, key, rate, log line, metrics. Plain ASGI, for speed."""

from __future__ import annotations

import hmac
import re
import secrets
import time

from cachetools import LRUCache
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.serving import LimitSettings
from serving.api.logs import RequestLog
from serving.api.problems import problem
from serving.metrics import Metrics

__all__ = ["RequestMiddleware"]

OPEN = ("/healthz", "/readyz", "/metrics")  # for monitoring: no API key, rate limit or log line
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
CLIENTS_KEPT = 10_000


class RequestMiddleware:
    """The outermost layer of the application, so that it also sees the responses to defects."""

    def __init__(self, app: ASGIApp, *, limits: LimitSettings, metrics: Metrics, log: RequestLog | None) -> None:
        self._app, self._limits, self._metrics, self._log = app, limits, metrics, log
        self._keys = [key.get_secret_value().encode() for key in limits.api_keys]
        self._buckets: LRUCache[bytes, tuple[float, float]] = LRUCache(CLIENTS_KEPT)  # tokens, time of the last request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            refusal = self._refusal(scope, headers, request_id)
            if refusal is not None:
                await refusal(scope, receive, answered)
            else:
                await self._app(scope, self._counted(receive), answered)
        finally:
            self._report(scope, request_id, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes], request_id: str) -> Response | None:
        limit = self._limits.body_bytes
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return problem(413, f"The body has {int(length):,} bytes; at most {limit:,} are allowed.", request_id)
        if scope["path"] in OPEN:
            return None
        key = headers.get(b"x-api-key", b"")
        if self._keys and not any([hmac.compare_digest(key, known) for known in self._keys]):
            return problem(401, "Send a valid key in the header X-API-Key.", request_id, {"WWW-Authenticate": "ApiKey"})
        if self._limits.rate_per_s is not None:
            client = key if self._keys else (scope.get("client") or ("",))[0].encode()
            wait = self._wait(client, self._limits.rate_per_s)
            if wait > 0:
                detail = f"More than {self._limits.rate_per_s:g} requests per second; try again in {wait:.1f} s."
                return problem(429, detail, request_id, {"Retry-After": str(int(wait) + 1)})
        return None

    def _wait(self, client: bytes, rate: float) -> float:
        """Return the seconds until the client may send a request (token bucket)."""
        now, burst = time.monotonic(), float(self._limits.burst)
        tokens, when = self._buckets.get(client, (burst, now))
        tokens = min(burst, tokens + (now - when) * rate)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        return 0.0 if allowed else (1 - tokens) / rate

    def _counted(self, receive: Receive) -> Receive:
        """Count the bytes of the body, and refuse it once it exceeds the limit. The client may not have sent its length."""
        read, limit = 0, self._limits.body_bytes

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, f"The body is larger than the allowed {limit:,} bytes.")
            return message

        return counted

    def _report(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Update the metrics, and write the log line."""
        route = getattr(scope.get("route"), "path", "other")
        state = scope["state"]
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route, self._metrics.role_of(state.get("version", ""))).observe(seconds)
        if self._log is not None and scope["path"] not in OPEN:
            line = {
                "time": round(time.time(), 3),
                "request": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
            }
            self._log.write(line | {name: state[name] for name in ("version", "source") if name in state})
