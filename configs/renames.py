"""Former names of settings. Each one is still read wherever settings come from: files, variables, options, Prefect and stored records.

This is the only place that knows former names. They are replaced before anything else looks at the settings, so all other code,
messages and records use the current names. Prefect's server checks the parameters of a run against the form of its deployment. A
form that was stored before a renaming knows only the former names (`names_of_form`), and a current form accepts both
(`accept_former_keys`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from configs.annotations import below, items_of, sections_of

__all__ = [
    "FORM_ONLY",
    "accept_former_keys",
    "current_key",
    "current_names",
    "former_keys",
    "names_of_form",
    "section_with_current_names",
]

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
FORM_ONLY = ("position", "title", "description", "default")
"""Parts of a field's JSON schema that are shown in a form and not checked."""


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


def accept_former_keys(model: type[BaseModel], schema: dict[str, Any]) -> None:
    """Make the JSON schema of a settings model accept the former keys, without a field for them in the form of the Prefect UI.

    The UI draws `properties` only. What matches `patternProperties` is checked like the field with the current name.
    """
    for old, new in former_keys(model).items():
        checked = {key: value for key, value in schema["properties"][new].items() if key not in FORM_ONLY}
        schema.setdefault("patternProperties", {})[f"^{old}$"] = checked


def names_of_form(annotations: Sequence[Any], given: Any, field: Mapping[str, Any], form: Mapping[str, Any]) -> Any:
    """Return `given` with the names that the form of an earlier version knows.

    A setting that was renamed since gets its former key. One that was added since is left out if it has its default value, which
    is what the flow uses without it. With another value it stays, and the server refuses it by name.

    Args:
        annotations: The types that `given` may have.
        given: Settings as JSON, with current names.
        field: The form's JSON schema of `given`.
        form: The whole form, which holds the definitions that `field` refers to.
    """
    schemas = list(_alternatives(field, form))
    if isinstance(given, dict):
        fields = {key: inner for schema in schemas for key, inner in schema.get("properties", {}).items()}
        former = {new: old for model in sections_of(annotations) for old, new in former_keys(model).items() if old in fields}
        names = {key: key if key in fields else former.get(key, key) for key in given}
        if fields and any(schema.get("additionalProperties") is False for schema in schemas):
            given = {
                key: value for key, value in given.items() if names[key] in fields or not _is_default(annotations, key, value)
            }
        return {
            names[key]: names_of_form(
                [inner for outer in annotations for inner in below(outer, key)], value, fields.get(names[key], {}), form
            )
            for key, value in given.items()
        }
    if isinstance(given, list):
        items = {"anyOf": [schema["items"] for schema in schemas if isinstance(schema.get("items"), dict)]}
        return [names_of_form(items_of(annotations), value, items, form) for value in given]
    return given


def _is_default(annotations: Sequence[Any], key: str, value: Any) -> bool:
    """Return whether a value, as JSON, is the default of the setting `key` of a section."""
    fields = [model.model_fields[key] for model in sections_of(annotations) if key in model.model_fields]
    return any(
        not field.is_required() and to_jsonable_python(field.get_default(call_default_factory=True)) == value for field in fields
    )


def _alternatives(field: Mapping[str, Any], form: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a JSON schema and those that it refers to or combines."""
    yield field
    definition = form.get("definitions", {}).get(field.get("$ref", "").rpartition("/")[2])
    for inner in (definition, *field.get("allOf", ()), *field.get("anyOf", ()), *field.get("oneOf", ())):
        if inner is not None:
            yield from _alternatives(inner, form)
