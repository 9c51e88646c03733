"""Error responses as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from configs.errors import ModelMissingError, OverloadedError, RecsysError, RequestInvalidError, RequestRefusedError
from serving.api.requests import OBJECTS
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
    faults = error.errors()[:ERRORS]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    unread = any(tuple(fault["loc"]) == ("body",) and fault["type"] != "missing" for fault in faults)
    if unread and not _is_json(kind):
        given = f"has the content type {_shortened(kind, NAME_LENGTH)}" if kind else "has no content type"
        return problem(415, f"The body {given}. Send JSON, with the header Content-Type: application/json.", _id(request))
    errors = [
        ProblemError(
            ".".join([_shortened(str(part), NAME_LENGTH) for part in fault["loc"]]) or "body",
            _shortened(_said(request, fault), TEXT_LENGTH),
        )
        for fault in faults
    ]
    detail = "; ".join(f"{fault.where}: {fault.what}" for fault in errors[:3])
    return problem(422, f"The request is invalid. {detail}.", _id(request), None, errors)


def _is_json(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _said(request: Request, fault: Any) -> str:
    """Return what is wrong with a value. If a field is unknown or missing, say which ones are known."""
    kind, place = fault["type"], fault["loc"]
    known = _known_names(request, place if kind == "model_attributes_type" else place[:-1] or place)
    if kind == "extra_forbidden":
        return f"unknown field{_meant(str(place[-1]), known)} Known: {', '.join(known)}"
    if kind == "model_attributes_type":
        return f"must be an object. Known: {', '.join(known)}"
    if kind != "missing":
        return str(fault["msg"]).removeprefix("Value error, ")
    if place[0] == "query":
        unknown = [name for name in request.query_params if name not in known]
        others = f"; {', '.join(_shortened(name, NAME_LENGTH) for name in unknown[:ERRORS])} is unknown" if unknown else ""
        return f"is missing{others}. Known: {', '.join(known)}"
    return f"is missing. Known: {', '.join(known)}" if known else "is missing"


def _known_names(request: Request, place: Sequence[int | str]) -> list[str]:
    """Return the names of the parameters, or of the fields of the object at a place of the body."""
    route = request.scope.get("route")
    if place[0] == "query":
        return [parameter.alias for parameter in getattr(getattr(route, "dependant", None), "query_params", ())]
    body = getattr(route, "body_field", None)
    within = next((OBJECTS[name] for name in place if name in OBJECTS), None if body is None else body.field_info.annotation)
    return list(getattr(within, "model_fields", ()))


def _meant(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name[:NAME_LENGTH], known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "."


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Any = error.headers
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:  # of the router, which says no more
        detail = _unrouted(request, error)
    return problem(error.status_code, detail, _id(request), headers)


def _unrouted(request: Request, error: HTTPException) -> str:
    """Return what a client has to mend whose path or method no route has."""
    path = _shortened(request.url.path, NAME_LENGTH)
    allowed = (error.headers or {}).get("Allow")
    if error.status_code == 405 and allowed:
        return f"{path} takes {allowed}, not {request.method}."
    if error.status_code == 404:
        return f"There is no {path} here{_meant(request.url.path, request.app.state.paths)} GET / says where things are."
    return str(error.detail)


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
