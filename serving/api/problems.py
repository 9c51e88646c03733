"""Error responses as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from configs.errors import ModelMissingError, OverloadedError, RecsysError, RequestRefusedError

__all__ = ["HANDLERS", "problem"]


def problem(
    status: int,
    detail: str,
    request_id: str,
    headers: dict[str, str] | None = None,
    errors: Sequence[dict[str, str]] = (),
) -> Response:
    """Return a response that explains what is wrong and what to do."""
    title = HTTPStatus(status).phrase
    content = {
        "type": f"urn:recsys:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"urn:request:{request_id}",
        "errors": list(errors),
    }
    return Response(to_json(content), status, headers, "application/problem+json")


def _id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"where": ".".join(map(str, fault["loc"])) or "body", "what": str(fault["msg"]).removeprefix("Value error, ")}
        for fault in error.errors()[:20]
    ]
    detail = "; ".join(f"{fault['where']}: {fault['what']}" for fault in errors[:3])
    return problem(422, f"The request is invalid. {detail}.", _id(request), None, errors)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Any = error.headers
    return problem(error.status_code, str(error.detail), _id(request), headers)


async def _refused(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, RequestRefusedError) else 500
    if isinstance(error, (ModelMissingError, OverloadedError)):
        return problem(503, str(error), _id(request), {"Retry-After": "1"})
    return problem(status, str(error), _id(request))


async def _defect(request: Request, error: Exception) -> Response:
    return problem(500, "An internal error occurred. The server's log has details under this request's id.", _id(request))


HANDLERS: dict[Any, Any] = {
    RequestValidationError: _invalid,
    HTTPException: _http,
    RecsysError: _refused,
    Exception: _defect,
}
