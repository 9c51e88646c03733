"""The sentences about settings that cannot be used: the source, the key, and the setting that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from configs.annotations import annotations_at, fields_at, holds_secret, sections_of

__all__ = ["IN_ADDRESS", "Source", "describe", "is_at_or_below", "nearest", "section_with", "short"]

MOST_FAULTS = 5  # faults of one source that a message names
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=\?)\S*=\S*(?<!')")
"""What an address holds that others must not read: user, password and query."""


@dataclass(frozen=True)
class Source:
    """One setting and its source."""

    name: str  # of the variable or option
    written: str  # key of the setting, as the author wrote it
    key: str  # the same with current names
    value: Any


def is_at_or_below(key: str, other: str) -> bool:
    """Whether a key is another one, or is a part of its section."""
    return f"{key}.".startswith(f"{other}.")


def describe(error: ValidationError, model: type[BaseModel], files: str, single: Sequence[Source]) -> str:
    """Describe the errors, grouped by source."""
    sentences: dict[str, list[str]] = {}
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        origin = next((source.name for source in reversed(single) if f"{key}.".startswith(f"{source.key}.")), files)
        if fault["type"] == "extra_forbidden":
            allowed = fields_at(model, fault["loc"][:-1])
            written = next((source.key for source in reversed(single) if is_at_or_below(source.key, key)), key)
            near = section_with(model, written) or nearest(str(fault["loc"][-1]), allowed)
            sentence = f"{key} is not a setting" + (
                f"; did you mean {near}?" if near else f"; the settings are {', '.join(allowed)}."
            )
        else:
            said = fault["msg"].removeprefix("Value error, ")
            given = "" if not key or holds_secret(model, fault["loc"]) else f" (given {_shown(fault['input'])})"
            sentence = f"{key}: {said}{given}." if key else f"{said}."
        sentences.setdefault(origin, []).append(sentence)
    return " ".join(
        f"{_opening(origin)} cannot be used: {' '.join(said[:MOST_FAULTS])}"
        + (f" There are {len(said) - MOST_FAULTS:,} more." if len(said) > MOST_FAULTS else "")
        for origin, said in sentences.items()
    )


def _opening(origin: str) -> str:
    """Return the source as the first words of a sentence. A file or a variable keeps its letters."""
    return f"The{origin[3:]}" if origin.startswith("the ") else origin


def section_with(model: type[BaseModel], key: str) -> str | None:
    """Return the key of the setting `key` of a section, if just one section of the model has it."""
    sections = [name for name, field in model.model_fields.items() if sections_of([field.annotation])]
    found = [f"{name}.{key}" for name in sections if annotations_at(model, f"{name}.{key}")]
    return found[0] if len(found) == 1 else None


def _shown(value: Any) -> str:
    return short(IN_ADDRESS.sub("********", repr(value)))


def short(text: str) -> str:
    return text if len(text) < 80 else text[:77] + "..."


def nearest(name: str, allowed: list[str]) -> str | None:
    found = difflib.get_close_matches(name, allowed, n=1)
    return found[0] if found else None
