"""Inspect the type annotations of settings: nested settings, secrets, and settings that accept text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

__all__ = ["annotations_at", "as_written", "below", "fields_at", "holds_secret", "items_of", "sections_of"]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the settings models that the annotation mentions, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def annotations_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the annotation of each setting of a section, with those of sections that plugins add."""
    further: dict[str, Any] = getattr(model, "further_sections", dict)()
    return {**{name: field.annotation for name, field in model.model_fields.items()}, **further}


def below(annotation: Any, key: str) -> list[Any]:
    """Return the annotations found under `key`.

    The list has one entry, several if a union has several models, or none if the key is unknown.
    """
    found = [fields[key] for model in models_in(annotation) if key in (fields := annotations_of(model))]
    return found or [get_args(part)[1] for part in _alternatives(annotation) if _is_mapping(part)]


def annotations_at(model: type[BaseModel], key: str) -> list[Any]:
    """Return the annotations found under a key such as `models.ss4rec`."""
    found: list[Any] = [model]
    for part in key.split("."):
        found = [inner for outer in found for inner in below(outer, part)]
    return found


def sections_of(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    """Return the settings models among the annotations and the members of their unions, but none inside a collection."""
    parts = [part for annotation in annotations for part in _alternatives(annotation)]
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def items_of(annotations: Iterable[Any]) -> list[Any]:
    """Return the annotations of the items of lists, tuples and sets."""
    return [item for annotation in annotations for part in _alternatives(annotation) for item in _items(part)]


def fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the names of the settings at a location of `model`. The location has the form of pydantic's errors."""
    current = model
    for part in location:
        annotation = annotations_of(current).get(str(part))
        if annotation is not None:  # otherwise `part` is a key of a mapping, and `current` is the model of the mapping's values
            current = next(models_in(annotation), current)
    return list(annotations_of(current))


def holds_secret(model: type[BaseModel], location: tuple[int | str, ...]) -> bool:
    """Whether the value at the location is a secret or contains one."""
    current: Any = model
    for part in location:
        found = [fields[str(part)] for inner in models_in(current) if str(part) in (fields := annotations_of(inner))]
        current = found[0] if found else current
    return _mentions_secret(current)


def as_written(value: Any, written: Any, annotations: list[Any]) -> Any:
    """Return `value` with the original text restored for settings that take text.

    YAML reads `off` as false, `2024` as a number and `2024-05-01` as a date. A setting that accepts text, but not the parsed
    type, gets the text as the author wrote it.

    Args:
        value: The document as parsed by YAML.
        written: The same document, with each scalar as its original text.
        annotations: The types that the setting accepts.
    """
    if isinstance(value, dict) and isinstance(written, dict) and len(value) == len(written):
        keyed_by_text = any(_is_mapping(part) for annotation in annotations for part in _alternatives(annotation))
        return {
            (text if keyed_by_text else key): as_written(
                inner, written[text], [a for outer in annotations for a in below(outer, text)]
            )
            for (key, inner), text in zip(value.items(), written, strict=True)
        }
    if isinstance(value, list) and isinstance(written, list):
        items = items_of(annotations)
        return [as_written(inner, text, items) for inner, text in zip(value, written, strict=True)]
    if isinstance(value, str | dict | list | NoneType):
        return value
    accepted = [part for annotation in annotations for part in _alternatives(annotation)]
    return written if any(map(_takes_text, accepted)) and not any(_takes(part, value) for part in accepted) else value


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, and unwrap `Annotated`."""
    if get_origin(annotation) is Literal or isinstance(annotation, type) or not get_args(annotation):
        return [annotation]
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    origin = get_origin(annotation)
    if isinstance(origin, type) and origin.__name__ != "UnionType":
        return [annotation]  # a collection
    return [part for inner in get_args(annotation) for part in _alternatives(inner)]


def _is_mapping(part: Any) -> bool:
    origin = get_origin(part)
    return isinstance(origin, type) and issubclass(origin, Mapping) and get_args(part)[:1] == (str,)


def _items(part: Any) -> list[Any]:
    origin = get_origin(part)
    if isinstance(origin, type) and issubclass(origin, (list, tuple, set, frozenset)):
        return [inner for inner in get_args(part) if inner is not Ellipsis]
    return []


def _takes_text(part: Any) -> bool:
    if get_origin(part) is Literal:
        return any(isinstance(choice, str) for choice in get_args(part))
    return part in (str, SecretStr, Path)


def _takes(part: Any, value: Any) -> bool:
    """Whether the part accepts a value that YAML did not parse as text."""
    if get_origin(part) is Literal:
        return any(choice == value and type(choice) is type(value) for choice in get_args(part))
    if isinstance(value, bool):
        return part is bool
    return part in (int, float) if isinstance(value, int | float) else part is type(value)


def _mentions_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_mentions_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation is SecretStr or any(_mentions_secret(part) for part in get_args(annotation))
