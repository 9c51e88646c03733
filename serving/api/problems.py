"""Error responses as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from configs.errors import ModelMissingError, OverloadedError, RecsysError, RequestInvalidError, RequestRefusedError
from serving.api.responses import Problem, ProblemError

__all__ = ["HANDLERS", "RETRY_SOON", "problem"]

RETRY_SOON = {"Retry-After": "1"}
ERRORS, NAME_LENGTH, TEXT_LENGTH = 10, 80, 300  # an answer does not repeat all that a client sent
STATUSES = {RequestRefusedError: 404, RequestInvalidError: 422, ModelMissingError: 503, OverloadedError: 503}


def problem(
    status: int,
    detail: str,
    request_id: str,
    headers: dict[str, str] | None = None,
    errors: Sequence[ProblemError] = (),
) -> Response:
    """Return a response that explains what is wrong and what to do."""
    title = HTTPStatus(status).phrase
    content = Problem(
        type=f"urn:recsys:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=detail,
        instance=f"urn:request:{request_id}",
        errors=list(errors),
    )
    return Response(to_json(content), status, headers, "application/problem+json")


def _id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _unlike_its_schema(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        ProblemError(
            ".".join([_shortened(str(part), NAME_LENGTH) for part in fault["loc"]]) or "body",
            _shortened(str(fault["msg"]).removeprefix("Value error, "), TEXT_LENGTH),
        )
        for fault in error.errors()[:ERRORS]
    ]
    detail = "; ".join(f"{fault.where}: {fault.what}" for fault in errors[:3])
    return problem(422, f"The request is invalid. {detail}.", _id(request), None, errors)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Any = error.headers
    return problem(error.status_code, str(error.detail), _id(request), headers)


async def _refused(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
    return problem(status, str(error), _id(request), RETRY_SOON if status == 503 else None)


async def _defect(request: Request, error: Exception) -> Response:
    return problem(500, "An internal error occurred. The server's log has details under this request's id.", _id(request))


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestValidationError: _unlike_its_schema,
    HTTPException: _http,
    RecsysError: _refused,
    Exception: _defect,
}
