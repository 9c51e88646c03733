"""Former names of settings. Each one is still read wherever settings come from: files, variables, options, Prefect and stored records.

This is the only place that knows former names. They are replaced before anything else looks at the settings, so all other code,
messages and records use the current names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from configs.annotations import below, items_of, sections_of

__all__ = ["current_key", "current_names", "former_keys", "section_with_current_names"]

KEYS: dict[str, dict[str, str]] = {
    "EvaluationSettings": {"request_time": "query_time"},
    "LandingSettings": {"races": "max_retries_on_conflict"},
    "Pin": {"movies": "items"},
    "PromotionSettings": {"races": "max_retries_on_conflict", "seed": "bootstrap_seed"},
    "ReportSettings": {"recommendations": "evidently"},
    "RetrainSettings": {"value": "business_value"},
    "Selection": {"movies": "items"},
}
"""Former key -> current key, by the name of the settings model. Models that inherit from it have the same former keys."""
VALUES: dict[str, dict[str, dict[str, str]]] = {
    "ShiftSettings": {
        "name": {
            "genre wave": "genre-surge",
            "bot users": "bot-users",
            "rating scale": "rating-scale",
            "feed outage": "feed-outage",
            "partial outage": "partial-outage",
        }
    },
}
"""Former value -> current value, by the name of the settings model and the key."""


@cache
def former_keys(model: type[BaseModel]) -> dict[str, str]:
    """Return the former keys of a settings model, each with its current key."""
    return {old: new for base in model.__mro__ for old, new in KEYS.get(base.__name__, {}).items()}


def section_with_current_names(model: type[BaseModel], given: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the settings of one section under their current names. The sections below it stay unchanged.

    Args:
        model: Settings model of the section.
        given: Settings of the section.
        above: Key of the section, for the message: `promotion.`, or empty.

    Raises:
        ValueError: A setting is given under both names.
    """
    renamed = former_keys(model)
    for old, new in renamed.items():
        if old in given and new in given:
            raise ValueError(f"{above}{old} is the former name of {above}{new}: give only {above}{new}")
    values = VALUES.get(model.__name__, {})
    return {
        renamed.get(key, key): values.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in given.items()
    }


def current_names(annotations: Sequence[Any], given: Any, above: str = "") -> Any:
    """Return `given` with the current names of all settings in it, at any depth.

    Args:
        annotations: The types that `given` may have.
        given: Settings as parsed from YAML or JSON.
        above: Key of `given`, for the message: `promotion.`, or empty.

    Raises:
        ValueError: A setting is given under both names.
    """
    if isinstance(given, dict):
        for section in sections_of(annotations):
            given = section_with_current_names(section, given, above)
        return {
            key: current_names([inner for outer in annotations for inner in below(outer, str(key))], value, f"{above}{key}.")
            for key, value in given.items()
        }
    if isinstance(given, list):
        return [current_names(items_of(annotations), value, above) for value in given]
    return given


def current_key(model: type[BaseModel], key: str) -> str:
    """Return the current form of a key such as `promotion.races`."""
    annotations: list[Any] = [model]
    parts = []
    for part in key.split("."):
        current = next((new for section in sections_of(annotations) if (new := former_keys(section).get(part))), part)
        parts.append(current)
        annotations = [inner for outer in annotations for inner in below(outer, current)]
    return ".".join(parts)
