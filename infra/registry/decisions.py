"""The decisions that the gate made after a version was sealed, each as JSON and as a page for people.

The decision that a version was sealed with is one of the version's files.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from infra.registry.versions import MOST_JSON, ModelRef, read_json
from infra.storage import Store

__all__ = ["add_decision", "list_decisions"]


def add_decision(store: Store, ref: ModelRef, decision: dict[str, Any], now: datetime, page: bytes | None) -> str | None:
    """Store a decision and its page, and return the page's key. `ModelRegistry.add_decision` describes the arguments."""
    prefix = f"{_prefix(ref.name, ref.version)}{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
    if page is not None:
        store.put_new(f"{prefix}.html", page)
    store.put_new(f"{prefix}.json", json.dumps(decision, indent=2).encode())
    return f"{prefix}.html" if page is not None else None


def list_decisions(store: Store, name: str, version: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the decisions, oldest first, each with its UTC time as `YYYYMMDDTHHMMSSffffffZ`."""
    keys = sorted(key for key in store.list(_prefix(name, version)) if key.endswith(".json"))
    found = store.listed(keys, MOST_JSON)
    return [(key.rpartition("/")[2].removesuffix(".json"), read_json(content, store.uri(key))) for key, content in found]


def _prefix(name: str, version: str) -> str:
    return f"decisions/{name}/{version}/"
