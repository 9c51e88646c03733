"""RunPod's published OpenAPI description (runpod_openapi.json), as a check of requests and answers."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

__all__ = ["DESCRIPTION", "schema_errors"]

DESCRIPTION = json.loads((Path(__file__).parent / "runpod_openapi.json").read_text())


@cache
def _validator(name: str, newer: bool) -> Draft202012Validator:
    document = json.loads(json.dumps(DESCRIPTION))
    if newer:
        words = {"type": "array", "items": {"type": "string"}}
        document["components"]["schemas"]["CreatePodRequest"]["allOf"][1]["properties"] |= {"cmd": words, "entrypoint": words}
    return Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def schema_errors(name: str, content: Any, *, newer: bool = False) -> list[str]:
    """Return what the published schema `name` objects to in `content`, in RunPod's words. `newer` adds `cmd` and `entrypoint`."""
    found = []
    for error in _validator(name, newer).iter_errors(content):
        if error.validator in ("unevaluatedProperties", "additionalProperties"):
            unknown = re.findall(r"'([^']+)'", error.message.partition("(")[2])
            found += [f"{error.json_path}: additional properties {key!r} not allowed" for key in unknown]
        else:
            found.append(f"{error.json_path}: {error.message}")
    return found
