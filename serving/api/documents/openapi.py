"""The OpenAPI document: the routes as FastAPI describes them, with the limits from the settings, and with examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from configs.serving import LimitSettings
from serving.api.documents.examples import Examples, Known, Operation
from serving.api.ids import MARK, TYPES
from serving.api.responses import Problem

__all__ = ["FOR_PEOPLE", "RESPONSES", "TAGS", "describe"]

RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        400: "The body is not JSON",
        401: "The header X-API-Key is missing or wrong",
        403: "The key does not have the scope that the request needs",
        404: "The item, genre, attribute, version or page does not exist",
        408: "The request did not arrive in time",
        413: "The body is too large",
        415: "The body is not sent as JSON",
        422: "The request is invalid",
        429: "Too many requests",
        503: "No model is served yet, or too many requests or connections are waiting",
    }.items()
}
TAGS = [
    {"name": "recommendations", "description": "Rank items for a user, for a history, or for somebody new."},
    {"name": "events", "description": "Tell what users did. The next answer takes it into account."},
    {"name": "outcomes", "description": "Tell what users did with the lists that they were shown. Experiments are judged by it."},
    {"name": "items", "description": "Find items, and those like them."},
    {"name": "users", "description": "See what is known of a user."},
    {"name": "models", "description": "See which versions are served, and which were refused."},
    {"name": "monitoring", "description": "For whoever runs the server. No key is needed."},
    {"name": "pages", "description": "For a browser. If keys are required, it asks for one: leave the user name empty."},
]
FOR_PEOPLE = "pages"  # the tag of operations that take the key as the password of a browser, too
PROBLEM = {
    "type": "urn:recsys:unprocessable-entity",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "The request is invalid. body.user: unknown field; did you mean user_id?",
    "instance": "urn:request:5f0c2b7d9a1e4c63",
    "errors": [{"where": "body.user", "what": "unknown field; did you mean user_id?"}],
}


def describe(app: FastAPI, limits: LimitSettings, known: Known, *, keyed: bool) -> dict[str, Any]:
    """Return the OpenAPI document of an application.

    Args:
        app: The application.
        limits: The limits of requests.
        known: What the examples are made of. Its schema decides the types of the ids.
        keyed: Whether requests need a key.
    """
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
    )
    schemas = document["components"]["schemas"]
    properties = schemas["RecommendationRequest"]["properties"]
    properties["k"]["maximum"] = limits.k
    properties["history"]["anyOf"][0]["maxItems"] = limits.history
    schemas["EventsRequest"]["properties"]["events"]["maxItems"] = limits.events
    schemas["OutcomesRequest"]["properties"]["outcomes"]["maxItems"] = limits.events
    schemas["Problem"]["examples"] = [PROBLEM]
    by_key = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    examples = Examples(known).of()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in ("k", "limit", "count"):
                    parameter["schema"]["maximum"] = limits.k
            for code, response in operation["responses"].items():
                if int(code) >= 400:  # FastAPI also lists its default content type
                    response["content"] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            _illustrate(operation, examples[method, path])
            if keyed and FOR_PEOPLE in operation["tags"]:
                operation["security"] = [{"key": []}, {"password": []}]
            elif keyed and "monitoring" in operation["tags"]:
                operation["security"] = []
    if keyed:
        document["components"]["securitySchemes"] = by_key | {"password": {"type": "http", "scheme": "basic"}}
        document["security"] = [{"key": []}]
    ids = known.schema.ids
    found: dict[str, Any] = _with_ids(document, {"user_id": TYPES[ids.user_id], "item_id": TYPES[ids.item_id]})
    return found


def _illustrate(operation: dict[str, Any], examples: Operation) -> None:
    """Add examples to an operation."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in examples.parameters:
            parameter["example"] = examples.parameters[parameter["name"]]
    if examples.requests:
        content = operation["requestBody"]["content"]["application/json"]
        content["examples"] = {name: {"summary": name, "value": body} for name, body in examples.requests.items()}
    for kind, content in operation["responses"]["200"]["content"].items():
        if examples.answer is not None and kind in ("application/json", "text/plain"):
            content["example"] = examples.answer


def _with_ids(part: Any, types: dict[str, dict[str, Any]]) -> Any:
    """Return a part of the document in which each marked id has its type."""
    if isinstance(part, list):
        return [_with_ids(each, types) for each in part]
    if not isinstance(part, dict):
        return part
    name = part.get(MARK)
    if not isinstance(name, str):
        return {key: _with_ids(value, types) for key, value in part.items()}
    return {key: value for key, value in part.items() if key not in (MARK, "anyOf", *types[name])} | types[name]
