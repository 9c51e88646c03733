"""The OpenAPI document: the routes as FastAPI describes them, with the limits from the settings."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from configs.serving import LimitSettings
from serving.api.responses import Problem

__all__ = ["RESPONSES", "describe"]

RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        400: "The body is not JSON",
        401: "The header X-API-Key is missing or wrong",
        404: "The film, genre or version does not exist",
        408: "The request did not arrive in time",
        413: "The body is too large",
        422: "The request is invalid",
        429: "Too many requests",
        503: "No model is served yet, or too many requests or connections are waiting",
    }.items()
}


def describe(app: FastAPI, limits: LimitSettings) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
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
    return document
