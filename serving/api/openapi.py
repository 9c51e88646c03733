"""The OpenAPI document: the routes as FastAPI describes them, with the limits from the settings."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from configs.serving import LimitSettings
from models.schema import DataSchema
from serving.api.ids import MARK, TYPES
from serving.api.responses import Problem

__all__ = ["RESPONSES", "describe"]

RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        400: "The body is not JSON",
        401: "The header X-API-Key is missing or wrong",
        404: "The item, genre, attribute or version does not exist",
        408: "The request did not arrive in time",
        413: "The body is too large",
        422: "The request is invalid",
        429: "Too many requests",
        503: "No model is served yet, or too many requests or connections are waiting",
    }.items()
}


def describe(app: FastAPI, limits: LimitSettings, data: DataSchema) -> dict[str, Any]:
    """Return the OpenAPI document of an application.

    Args:
        app: The application.
        limits: The limits of requests.
        data: The data of the served versions, which decides the types of the ids.
    """
    document: dict[str, Any] = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    properties = schemas["RecommendationRequest"]["properties"]
    properties["k"]["maximum"] = limits.k
    properties["history"]["anyOf"][0]["maxItems"] = limits.history
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
    types = {"user_id": data.ids.user_id, "item_id": data.ids.item_id}
    found: dict[str, Any] = _with_ids(document, {name: TYPES[kind] for name, kind in types.items()})
    return _with_examples(found, data) if "text" in types.values() else found


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


def _with_examples(document: dict[str, Any], data: DataSchema) -> dict[str, Any]:
    """Return the document with text for the ids in its examples that are text."""

    def written(part: Any, name: str = "") -> Any:
        if isinstance(part, dict):
            return {key: written(value, key) for key, value in part.items()}
        if isinstance(part, list):
            return [written(each, name) for each in part]
        if isinstance(part, int) and name == "user_id" and data.ids.user_id == "text":
            return f"user-{part}"
        return f"{data.nouns.item}-{part}" if isinstance(part, int) and name == "item_id" and data.ids.item_id == "text" else part

    found = deepcopy(document)
    for schema in found["components"]["schemas"].values():
        if "examples" in schema:
            schema["examples"] = written(schema["examples"])
    return found
