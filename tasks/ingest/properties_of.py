"""Find the properties of a dataset in the settings and in the first rows of its first delivery."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from configs.errors import SourceError
from configs.settings import DataSettings
from models.columns import Columns
from tasks.ingest.events import EventReading, head_of_file, id_types_given, looks_like_text, reading_of
from tasks.tables import DAMAGE, PLAIN, DatasetProperties, IdKind

__all__ = ["reading_for", "resolved_properties"]


def resolved_properties(data: DataSettings, paths: Iterable[Path], stored: DatasetProperties | None = None) -> DatasetProperties:
    """Return the properties of a dataset.

    The settings decide and, where `data.id_type` is `auto`, the stored dataset. For a new dataset, the first rows of all files do.

    Args:
        data: The settings.
        paths: The event files of the first delivery. They are only looked at if the type of the ids is not known yet.
        stored: The properties of the stored dataset, if there is one.
    """
    given = id_types_given(data.id_type)
    kinds: dict[str, IdKind] = {}
    heads = None
    for column in (Columns.USER, Columns.ITEM):
        if column in given:
            kinds[column] = "text" if given[column] == "text" else "integer"
        elif stored is not None:
            kinds[column] = stored.ids[column]
        else:
            heads = _heads(data, paths) if heads is None else heads
            kinds[column] = "text" if looks_like_text(heads[column]) else "integer"
    return DatasetProperties(
        user_ids=kinds[Columns.USER],
        item_ids=kinds[Columns.ITEM],
        feedback=data.feedback,
        repeats=data.repeats,
        weights=data.columns.weight is not None,
    )


def reading_for(data: DataSettings, properties: DatasetProperties, stored: DatasetProperties | None = None) -> EventReading:
    """Return how events are written. Files whose ids are text are refused if the stored dataset has integers."""
    return reading_of(data, properties, fixed=stored is not None)


def _heads(data: DataSettings, paths: Iterable[Path]) -> dict[str, list[str | None]]:
    """Return the ids in the first rows of all files that can be opened."""
    found: dict[str, list[str | None]] = {Columns.USER: [], Columns.ITEM: []}
    reading = reading_of(data, PLAIN)
    for path in paths:
        with suppress(SourceError, *DAMAGE):  # reported when the file is read
            head = head_of_file(path, reading)
            for column, cells in found.items():
                cells += head.get(column, ())
    return found
