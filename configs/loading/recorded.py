"""Reads the settings that a version records: those that it was trained and judged with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from configs.errors import NewerReleaseError
from configs.renames import section_with_current_names

__all__ = ["read_recorded", "refuse_newer"]

T = TypeVar("T", bound=BaseModel)


def read_recorded(model: type[T], recorded: Mapping[str, Any], of: str) -> T:
    """Read a section of the settings that a version records, under their present or former names.

    Args:
        model: Settings model of the section.
        recorded: The section.
        of: What recorded it, for the message, such as a version.

    Raises:
        NewerReleaseError: The section has settings that this release does not know.
    """
    values = section_with_current_names(model, recorded)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors()
        refuse_newer((".".join(map(str, each["loc"])) for each in faults if each["type"] == "extra_forbidden"), of)
        raise


def refuse_newer(unknown: Iterable[str], of: str, known: Collection[str] = ()) -> None:
    """Raise NewerReleaseError if what `of` recorded has settings that are not known here."""
    if names := sorted(set(unknown) - set(known)):
        raise NewerReleaseError(
            f"{of} comes from a newer release: it records {', '.join(names)}, which this one does not know. Install the newer "
            "release; or promote an earlier version with it (`recsys model rollback`), and then return to this one."
        )
