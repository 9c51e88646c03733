"""The HTTP API of `recsys serve`, from its OpenAPI document."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Any

from configs.serving import ServingSettings
from serving.api.app import ServingApp
from serving.api.documents import RESPONSES
from serving.worker import ServingWorker
from website.reference.markdown import code, paragraphs, prose, table

__all__ = ["document", "page"]

INTRODUCTION = """# HTTP API

`recsys serve` answers these routes. The server describes them itself at `/openapi.json`, with the types of your ids and your limits;
this page shows the defaults. Every route can also answer with a [problem](errors.md#problems-of-the-api), such as 422 for a request that
does not match its schema.

With [keys](../how-to/serve.md#protect-it), each request needs one in the header `X-API-Key`. Each answer has the header `X-Request-Id`.
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI document of a server with default settings."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ServingSettings.model_validate({"store": {"url": f"file:{folder}"}, "log_requests": False})
        return ServingApp(ServingWorker(settings), None).openapi()


def page() -> str:
    """Return the page of the HTTP API."""
    described = document()
    schemas: dict[str, Any] = described["components"]["schemas"]
    parts = [INTRODUCTION]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            parts += [f"## {method.upper()} {path}\n", *_operation(operation)]
    parts.append("## Bodies\n")
    for name, schema in sorted(schemas.items()):
        parts += [f"### {name}\n", *_schema(schema)]
    return "\n".join(parts)


def _operation(operation: dict[str, Any]) -> Iterator[str]:
    yield paragraphs(operation.get("description") or operation.get("summary", "")) + "\n"
    if parameters := operation.get("parameters"):
        rows = [
            [
                code(one["name"]),
                one["in"],
                _type(one["schema"]),
                "yes" if one.get("required") else "",
                prose(one.get("description", "")),
            ]
            for one in parameters
        ]
        yield table(["parameter", "in", "type", "required", "meaning"], rows) + "\n"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"Body: {_type(content['schema'])}. Examples:\n"
        for example in content.get("examples", {}).values():
            yield f"{example['summary']}:\n\n```json\n{json.dumps(example['value'], indent=2)}\n```\n"
    rows = []
    for status, response in operation["responses"].items():
        if int(status) in RESPONSES:  # the page of errors tells these once
            continue
        kinds = [f"{_type(content.get('schema', {})) or 'text'}" for content in response.get("content", {}).values()]
        rows.append([code(status), prose(response["description"]), ", ".join(dict.fromkeys(kinds))])
    yield table(["status", "meaning", "body"], rows) + "\n"
    answer = operation["responses"]["200"].get("content", {}).get("application/json", {})
    if "example" in answer:
        yield f"An answer:\n\n```json\n{json.dumps(answer['example'], indent=2)}\n```\n"


def _schema(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("description"):
        yield paragraphs(schema["description"]) + "\n"
    required = schema.get("required", ())
    rows = [
        [
            code(name),
            _type(field),
            "yes" if name in required else "",
            prose(field.get("description", ""))
            + (f" Default {code(json.dumps(field['default']))}." if "default" in field else ""),
        ]
        for name, field in schema.get("properties", {}).items()
    ]
    if rows:
        yield table(["field", "type", "required", "meaning"], rows) + "\n"
    elif not schema.get("description"):
        yield f"{_type(schema)}\n"
    for example in schema.get("examples", ())[:1]:
        yield f"```json\n{json.dumps(example, indent=2)}\n```\n"


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a JSON schema in words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema.get("anyOf") or schema["oneOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(code(value) for value in schema.get("enum", [schema.get("const")]))
    kind = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}.get(
        schema.get("type", ""), schema.get("type", "")
    )
    if kind == "array":
        bounds = [f"at most {schema['maxItems']}"] if "maxItems" in schema else []
        return f"list of {_type(schema.get('items', {})) or 'values'}" + "".join(f", {bound}" for bound in bounds)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {_type(schema['additionalProperties']) or 'any value'}"
    bounds = [
        f"{words} {schema[key]}"
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    bounds += [f"at most {schema['maxLength']} characters"] if "maxLength" in schema else []
    return ", ".join([kind, *bounds])
